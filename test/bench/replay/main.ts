// Replays typing against the completion client: first against a script on a virtual clock, then against a real mesh in real time.
// Prints its tables in Markdown; the exit status is 1 when a bar is missed and --strict is given.
//
//   npm run bench:replay [-- --traces 12 --seconds 600 --seed WORD --only scripted|mesh --json FILE --strict]
//                        [--model DIR --order served|psm --shape qwen2.5-1.5b]
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openPromptModel } from './prompt-cache.ts';
import { playReal, type RealRun } from './real-run.ts';
import { startReplayMesh } from './replay-mesh.ts';
import { prepareModel } from './replay-model.ts';
import {
  clientRows,
  formatRows,
  keptRows,
  latencyRows,
  meshRows,
  promptRows,
  type Row,
  timeRows,
} from './replay-table.ts';
import { playScripted, type Run } from './scripted-run.ts';
import { ROOT, readSources } from './sources.ts';
import { makeTrace, type Trace } from './trace.ts';

const { values } = parseArgs({
  options: {
    traces: { type: 'string', default: '12' },
    seconds: { type: 'string', default: '600' },
    model: { type: 'string', default: join(ROOT, 'models/quern-mini') },
    order: { type: 'string', default: 'served' },
    shape: { type: 'string', default: '' },
    only: { type: 'string', default: '' },
    seed: { type: 'string', default: 'a' },
    json: { type: 'string' },
    strict: { type: 'boolean', default: false },
  },
});

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function machineLine(): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim();
  const load = loadavg().map((value) => value.toFixed(2));
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, load ${load.join(' ')}, commit ${commit}`;
}

async function playAllReal(traces: readonly Trace[]): Promise<RealRun[]> {
  const { dir, remove } = prepareModel(values.model, values);
  const mesh = await startReplayMesh(dir);
  try {
    const until = performance.now() + Number(values.seconds) * 1000;
    // As after the first minutes of service: code that ran a few times only is still interpreted.
    const [source] = readSources(1);
    const other = makeTrace(source!, 0, `${values.seed} warm-up`);
    const warmUp = await playReal(other, mesh, -1, Math.min(until, performance.now() + 30_000));
    print(`warm-up: ${warmUp.played.keys} keys, not counted\n`);
    const runs: RealRun[] = [];
    for (const [index, trace] of traces.entries()) {
      if (performance.now() >= until) break;
      runs.push(await playReal(trace, mesh, index, until));
    }
    return runs;
  } finally {
    await mesh.close();
    remove();
  }
}

function traceTable(traces: readonly Trace[]): string {
  const lines = traces.map(({ path, languageId, source, passages, paceMs }) => {
    const chars = passages.reduce((total, { text }) => total + text.length, 0);
    const from = `${source.from}, ${source.licence} | ${source.hash}`;
    return `| ${path} | ${languageId} | ${from} | ${passages.length} | ${chars} | ${paceMs} ms |`;
  });
  const head = '| file | language | source | sha256 | passages | characters | pace |';
  return ['## Traces', '', head, '|---|---|---|---|---|---|---|', ...lines, ''].join('\n');
}

const traces = readSources(Number(values.traces)).map((source, index) => makeTrace(source, index, values.seed));
const parts: { title: string; rows: Row[] }[] = [];
const runs: (Run | RealRun)[] = [];
const add = (title: string, rows: Row[]): void => {
  parts.push({ title, rows });
  print(formatRows(title, rows));
};

print(`${machineLine()}\n`);
print(traceTable(traces));
if (values.only !== 'mesh') {
  const scripted: Run[] = [];
  const model = await openPromptModel(values.model);
  for (const trace of traces) scripted.push(await playScripted(trace, model));
  runs.push(...scripted);
  add('Against a script, virtual clock', [
    ...[...clientRows(scripted), ...promptRows(scripted), ...latencyRows(scripted), ...keptRows(scripted)],
  ]);
}
if (values.only !== 'scripted') {
  const real = await playAllReal(traces);
  runs.push(...real);
  const model = values.shape === '' ? values.model.split('/').at(-1) : `${values.shape}, random weights`;
  add(`Against a mesh (${model}, order ${values.order})`, [
    ...[...clientRows(real), ...meshRows(real), ...latencyRows(real), ...keptRows(real)],
  ]);
  add('Where the time of shown requests went', timeRows(real));
}
print(`load at the end ${loadavg()[0]?.toFixed(2)}`);
if (values.json) {
  const plainMaps = (_key: string, value: unknown): unknown =>
    value instanceof Map ? Object.fromEntries(value) : value;
  writeFileSync(values.json, JSON.stringify({ machine: machineLine(), options: values, parts, runs }, plainMaps, 1));
}
if (values.strict && parts.some(({ rows }) => rows.some(({ holds }) => holds === false))) process.exitCode = 1;
