// Every metric that a rule or a panel reads is one that a service exports, or one of an exporter that is named here.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dashboardFiles, dashboardFolder } from '../../scripts/dashboards.ts';
import { exportedFamilies, exportedNames } from './exported.ts';
import { groupingOf, metricsOf } from './promql.ts';
import { promtoolOn } from './promtool.ts';
import { alerts, rules } from './rules.ts';

/** From elsewhere: name → who exports it. */
const FOREIGN = new Map([
  ['up', 'Prometheus'],
  ['node_processes_state', 'node_exporter, collector "processes"'],
  ['node_hwmon_temp_celsius', 'node_exporter'],
  ['DCGM_FI_DEV_GPU_TEMP', 'dcgm-exporter'],
  ['DCGM_FI_DEV_FB_USED', 'dcgm-exporter'],
  ['DCGM_FI_DEV_FB_FREE', 'dcgm-exporter'],
  ['DCGM_FI_DEV_XID_ERRORS', 'dcgm-exporter'],
  ['DCGM_FI_PROF_GR_ENGINE_ACTIVE', 'dcgm-exporter'],
  ['otelcol_exporter_send_failed_spans', 'Jaeger (OpenTelemetry collector)'],
  ['otelcol_exporter_send_failed_spans_total', 'the same, newer'],
]);
/** Labels that every scrape has, and those of the exporters. */
const COMMON = new Set(['instance', 'job', 'service', 'exporter', 'gpu']);

type Target = { expr: string; datasource: { uid: string } };
type GrafanaPanel = { type: string; title: string; targets?: Target[] };
type GrafanaDashboard = {
  uid: string;
  panels: GrafanaPanel[];
  templating: { list: { name: string; type: string; query: string | { query: string } }[] };
};

const read = (name: string): GrafanaDashboard =>
  JSON.parse(readFileSync(join(dashboardFolder, name), 'utf8')) as GrafanaDashboard;
const boards = [...dashboardFiles().keys()].map((name) => ({ name, board: read(name) }));

/** Every expression with where it stands, Grafana's variables filled in. */
function expressions(): { where: string; expr: string }[] {
  const fromRules = rules.map(({ alert, record, expr }) => ({ where: String(alert ?? record), expr }));
  const fromPanels = boards.flatMap(({ name, board }) =>
    board.panels.flatMap(({ title, targets = [] }) =>
      targets.map(({ expr }) => ({
        where: `${name}: ${title}`,
        expr: expr.replaceAll('$__rate_interval', '1m').replace(/\$(model|tenant)\b/g, '.*'),
      })),
    ),
  );
  return [...fromRules, ...fromPanels];
}

test('the dashboards are what scripts/dashboards makes', () => {
  for (const [name, text] of dashboardFiles()) {
    const file = readFileSync(join(dashboardFolder, name), 'utf8');
    assert.equal(file, text, `${name}: run "node scripts/dashboards.ts"`);
  }
});

test('dashboards have a fixed uid, a datasource variable and no panel of another datasource', () => {
  assert.deepEqual(
    boards.map(({ board }) => board.uid),
    ['quern-overview', 'quern-engine', 'quern-tenants', 'quern-audit'],
  );
  for (const { name, board } of boards) {
    assert.equal(board.templating.list[0]?.name, 'datasource', name);
    assert.equal(board.templating.list[0]?.type, 'datasource', name);
    for (const { title, type, targets = [] } of board.panels) {
      if (type !== 'row') assert.ok(targets.length > 0, `${name}: ${title} shows nothing`);
      for (const { datasource } of targets) assert.equal(datasource.uid, '$datasource', `${name}: ${title}`);
    }
  }
});

test('every expression of rules and panels is PromQL', async () => {
  const all = expressions();
  assert.ok(all.length > 150, `${all.length} expressions`);
  const group = all.map(({ expr }, i) => ({ record: `check:${i}`, expr }));
  const files = { 'rules.json': JSON.stringify({ groups: [{ name: 'g', rules: group }] }) };
  const { code, output } = await promtoolOn(files, ['check', 'rules', 'rules.json']);
  const told = output.replace(/check:(\d+)/g, (_, i: string) => all[Number(i)]?.where ?? '');
  assert.equal(code, 0, told.slice(0, 4_000));
});

test('every metric and label of rules and panels is exported', async () => {
  const names = await exportedNames();
  const recorded = new Set(rules.flatMap(({ record }) => record ?? []));
  for (const { where, expr } of expressions()) {
    const uses = metricsOf(expr);
    assert.ok(uses.length > 0, `${where}: no metric in ${expr}`);
    const known = new Set(COMMON);
    for (const { name, labels } of uses) {
      if (recorded.has(name) || FOREIGN.has(name)) continue;
      assert.ok(names.has(name), `${where}: nothing exports ${name}`);
      const own = names.get(name);
      for (const label of own ?? []) known.add(label);
      for (const label of labels) {
        if (own) assert.ok(own.has(label) || COMMON.has(label), `${where}: ${name} has no label "${label}"`);
      }
    }
    const isKnown = uses.every(({ name }) => names.get(name) !== null && !FOREIGN.has(name));
    for (const label of isKnown ? groupingOf(expr) : []) {
      assert.ok(known.has(label), `${where}: no metric of it has the label "${label}"`);
    }
  }
  for (const foreign of FOREIGN.keys()) {
    assert.ok(
      expressions().some(({ expr }) => metricsOf(expr).some(({ name }) => name === foreign)),
      `${foreign} is not used`,
    );
  }
});

test('variables of dashboards read labels that are exported', async () => {
  const names = await exportedNames();
  for (const { name, board } of boards) {
    for (const { type, query } of board.templating.list) {
      if (type !== 'query') continue;
      const text = typeof query === 'string' ? query : query.query;
      const [, metric = '', label = ''] = /^label_values\((\S+), (\S+)\)$/.exec(text) ?? [];
      assert.ok(names.get(metric)?.has(label), `${name}: ${text}`);
    }
  }
});

test('alerts on what services export are not about a service that has none of it', async () => {
  const families = await exportedFamilies();
  for (const { alert, expr } of alerts) {
    for (const [, service = ''] of expr.matchAll(/service="(\w+)"/g))
      assert.ok(families.has(service), `${alert}: ${service}`);
  }
});

test("engines export vLLM's names, and only engines do", async () => {
  const families = await exportedFamilies();
  const aliases = (service: string): string[] =>
    (families.get(service) ?? []).map(({ name }) => name).filter((name) => name.startsWith('vllm:'));
  const wanted = [
    'vllm:num_requests_running',
    'vllm:num_requests_waiting',
    'vllm:kv_cache_usage_perc',
    'vllm:cache_config_info',
    'vllm:prompt_tokens_total',
    'vllm:generation_tokens_total',
    'vllm:prefix_cache_queries_total',
    'vllm:prefix_cache_hits_total',
    'vllm:num_preemptions_total',
    'vllm:request_success_total',
    'vllm:iteration_tokens_total',
    'vllm:time_to_first_token_seconds',
    'vllm:inter_token_latency_seconds',
    'vllm:e2e_request_latency_seconds',
    'vllm:request_queue_time_seconds',
    'vllm:request_prefill_time_seconds',
    'vllm:request_decode_time_seconds',
    'vllm:request_prompt_tokens',
    'vllm:request_generation_tokens',
  ];
  for (const name of wanted) assert.ok(aliases('engine').includes(name), name);
  for (const service of ['gateway', 'tokenizer', 'audit']) assert.deepEqual(aliases(service), []);
});
