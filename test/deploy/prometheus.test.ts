// Prometheus's configuration and alerts: valid, complete, each fires when it should and is silent when it should not.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type AlertCase, alertCases } from './alert-cases.ts';
import { promtool, promtoolOn } from './promtool.ts';
import { alerts, type Rule, root, ruleFiles, rules } from './rules.ts';

test('the configuration and every rule file are valid', async () => {
  for (const args of [
    ['check', 'config', '--syntax-only', join(root, 'deploy/prometheus/prometheus.yml')],
    ['check', 'rules', ...ruleFiles],
  ]) {
    const { code, output } = await promtool(args);
    assert.equal(code, 0, output);
  }
});

test('every alert says how bad it is, what it means and what to do', () => {
  assert.ok(alerts.length > 30, `${alerts.length} alerts`);
  const runbooks = readFileSync(join(root, 'docs/runbooks.md'), 'utf8');
  const sections = new Set([...runbooks.matchAll(/^## (\w+)$/gm)].map((match) => (match[1] as string).toLowerCase()));
  for (const { alert, for: duration, labels, annotations } of alerts) {
    assert.match(duration ?? '', /^\d+[mhs]$/, `${alert}: for`);
    assert.match(labels?.severity ?? '', /^(page|ticket|info)$/, `${alert}: severity`);
    assert.ok(annotations?.summary && annotations.description, `${alert}: summary and description`);
    assert.equal(annotations.runbook_url, `docs/runbooks.md#${alert.toLowerCase()}`);
    assert.ok(sections.has(alert.toLowerCase()), `docs/runbooks.md has no section "## ${alert}"`);
  }
  const names = new Set(alerts.map(({ alert }) => alert.toLowerCase()));
  for (const section of sections) assert.ok(names.has(section), `docs/runbooks.md: no alert is called ${section}`);
  assert.equal(names.size, alerts.length, 'each name once');
});

test('every alert has a case in which it fires and one in which it does not', () => {
  for (const { alert } of alerts) {
    const cases = alertCases.filter((one) => one.alert === alert);
    assert.ok(cases.some(({ fires }) => fires > 0) && cases.some(({ fires }) => fires === 0), alert);
  }
  for (const { alert } of alertCases)
    assert.ok(
      alerts.some((rule) => rule.alert === alert),
      `no alert "${alert}"`,
    );
});

/** One promtool test group: how many alerts of that name fire at that minute. */
function unitTest({ alert, because, series, at, fires }: AlertCase): object {
  return {
    name: `${alert}: ${because}`,
    interval: '1m',
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertname="${alert}",alertstate="firing"}) or vector(0)`,
        eval_time: `${at}m`,
        exp_samples: [{ labels: '{}', value: fires }],
      },
    ],
  };
}

/** A promtool test file. JSON is YAML. */
const testFile = (files: readonly string[], tests: object[]): string =>
  JSON.stringify({ rule_files: files, evaluation_interval: '1m', tests });

/** The cases of one alert with a copy of its rule: with all rules beside it each case would take a second. */
function filesOf(alert: string, cases: readonly AlertCase[]): Record<string, string> {
  const rule = alerts.find((one) => one.alert === alert) as Rule;
  const needed = rules.filter(({ record }) => record !== undefined && rule.expr.includes(record));
  const copy = { groups: [{ name: alert, rules: [...needed, rule] }] };
  return {
    [`${alert}.rules.json`]: JSON.stringify(copy),
    [`${alert}.test.json`]: testFile([`${alert}.rules.json`], cases.map(unitTest)),
  };
}

test('alerts fire and stay silent as promtool computes them', async () => {
  const byAlert = Map.groupBy(alertCases, ({ alert }) => alert);
  const files = Object.assign({}, ...[...byAlert].map(([alert, cases]) => filesOf(alert, cases)));
  const tests = [...byAlert.keys()].map((alert) => `${alert}.test.json`);
  const { code, output } = await promtoolOn(files, ['test', 'rules', ...tests]);
  const told = output.split('\n').filter((line) => !/^(Unit Testing:|\s*SUCCESS|\s*$)/.test(line));
  assert.equal(code, 0, told.join('\n').slice(0, 8_000));
});

test('what an alert says is filled in', async () => {
  const kv = {
    interval: '1m',
    input_series: [{ series: 'quern_engine_kv_used_ratio{model_name="m",instance="e:9153"}', values: '0.95x10' }],
    alert_rule_test: [
      {
        eval_time: '7m',
        alertname: 'KvPressure',
        exp_alerts: [
          {
            exp_labels: { severity: 'ticket', model_name: 'm', instance: 'e:9153' },
            exp_annotations: {
              summary: 'The KV cache is nearly full',
              description: '95% of the KV blocks of m on e:9153 are held; soon sequences are preempted.',
              runbook_url: 'docs/runbooks.md#kvpressure',
            },
          },
        ],
      },
    ],
  };
  const { code, output } = await promtoolOn({ 'kv.json': testFile(ruleFiles, [kv]) }, ['test', 'rules', 'kv.json']);
  assert.equal(code, 0, output);
});

test('a case that is wrong is noticed', async () => {
  const wrong = { ...(alertCases.find(({ fires }) => fires === 1) as AlertCase), fires: 2 };
  const files = filesOf(wrong.alert, [wrong]);
  const { code } = await promtoolOn(files, ['test', 'rules', `${wrong.alert}.test.json`]);
  assert.notEqual(code, 0);
});

test('rules name no bucket by a whole number: Prometheus 3 writes le="1.0" where 2 writes le="1"', () => {
  for (const { expr } of rules) {
    for (const [, bound] of expr.matchAll(/le="([^"]+)"/g)) assert.match(bound as string, /\.[0-9]*[1-9]$/, expr);
  }
});
