/** `quern eval infill` as a user runs it, against a real gateway with a scripted engine. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { QuernError } from '#kit/errors.ts';
import { quern } from '../../e2e/mesh.ts';
import { eventually, startMesh } from './fakes/mesh.ts';
import { bytesOf } from './fakes/mock-tokenizer.ts';

/** Forty lines that are all the same, so that one answer is right wherever a whole line was cut out. */
const LINE = 'total = compute(total)';
const TEXT = `${LINE}\n`.repeat(40);

const STORED = join(import.meta.dirname, '../../../docs/measurements/2026-11-22-infill-quality.jsonl');

function workplace(t: TestContext): { sources: string; file: (name: string) => string } {
  const folder = mkdtempSync(join(tmpdir(), 'quern-eval-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const sources = join(folder, 'same.py');
  writeFileSync(sources, TEXT);
  return { sources, file: (name) => join(folder, name) };
}

type Stored = {
  id: string;
  failure: string | null;
  exact: boolean;
  wanted?: string;
  got?: string;
  latency_ms: number;
  prompt_tokens: number;
  cached_tokens: number;
};
const storedIn = (file: string): Stored[] =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line) as Stored);

type Told = {
  figures: { answered: number; failures: Record<string, number> }[];
  comparison: { pairs: number; differences: { verdict: string }[] };
};

const LIMIT = { timeoutMs: 300_000 };

/** `quern`, of which a test ends the mesh or itself when `file` has a row. */
async function untilRow(args: string[], file: string, then: (child: ChildProcess) => unknown) {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../../services/cli/bin.mjs'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: LIMIT.timeoutMs,
  });
  const said = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (piece: string) => (said.stdout += piece));
  child.stderr?.setEncoding('utf8').on('data', (piece: string) => (said.stderr += piece));
  const closed = once(child, 'close') as Promise<[number | null]>;
  await eventually(() => existsSync(file), `a row: ${said.stderr}`, LIMIT.timeoutMs);
  await then(child);
  const [code] = await closed;
  return { code, ...said };
}

test('holes are filled greedily, scored, stored, and compared with an earlier run', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf(`${LINE}\nanother line\n`) } });
  const { sources, file } = workplace(t);
  const common = ['eval', 'infill', '--gateway', mesh.gateway.grpcAddress, '--sources', sources, '--holes', '30'];
  const first = await quern([...common, '--with-text', '--out', file('first.jsonl')], LIMIT);
  assert.equal(first.code, 0, first.stderr);
  const rows = storedIn(file('first.jsonl'));
  assert.equal(rows.length, 30);
  for (const { got, wanted, exact } of rows) assert.deepEqual([got?.trim(), exact], [LINE, wanted === LINE]);
  const whole = rows.filter(({ exact }) => exact).length;
  assert.ok(whole >= 5 && whole <= 25, `half of the holes are whole lines: ${whole}`);
  assert.ok(first.stdout.includes(`${(whole / 30).toFixed(3)} [`), first.stdout);
  assert.equal(mesh.engine.requests.length, 30);
  for (const { sampling, priorityClass } of mesh.engine.requests) {
    assert.deepEqual([sampling?.temperature, sampling?.maxTokens], [0, 64]);
    assert.notEqual(priorityClass, PriorityClass.PRIORITY_CLASS_UNSPECIFIED);
  }
  mesh.engine.settings.script = () => bytesOf('nothing of this');
  const compared = [...common, '--compare', file('first.jsonl'), '--out', file('second.jsonl')];
  const second = await quern([...compared, '--fail-on-regression', '--fail-below', 'exact=0.1'], LIMIT);
  assert.equal(second.code, 1);
  assert.match(second.stdout, /\n30 holes answered in both\n/);
  assert.match(second.stdout, /exact match +0\.\d+ +0\.000 +-0\.\d+ .* worse/);
  assert.match(second.stderr, /quern: exact is 0\.000, below 0\.1\nquern: exact is worse by 0\.\d+ than before/);
  assert.deepEqual(
    storedIn(file('second.jsonl')).map(({ id }) => id),
    rows.map(({ id }) => id),
  );
  assert.ok(!readFileSync(file('second.jsonl'), 'utf8').includes('compute'), 'no source text without --with-text');
  assert(storedIn(file('second.jsonl')).every((row) => row.cached_tokens === 4)); // as this engine says of every prompt
  assert.match(second.stdout, /\nprompt cached +0\.\d %\n/);
  assert(storedIn(file('first.jsonl')).every(({ prompt_tokens: tokens }) => tokens > 60));
  assert.match(
    second.stdout,
    /\nms, p50 and p95: .* then, .* now \(of the prompts' tokens 0\.\d % were in the prefix cache then/,
  );
  const short = await quern([...common, '--prompt-tokens', '60', '--out', file('short.jsonl')], LIMIT);
  assert.match(short.stdout, /, prompts of at most 60 tokens; 95 %/);
  assert(storedIn(file('short.jsonl')).some(({ prompt_tokens: tokens }) => tokens <= 60));
  const again = await quern(['eval', 'compare', file('second.jsonl'), file('first.jsonl'), '--json'], LIMIT);
  assert.equal(again.code, 0, again.stderr);
  const { comparison, figures } = JSON.parse(again.stdout) as Told;
  assert.deepEqual(
    [comparison.pairs, comparison.differences[0]?.verdict, figures.at(-1)?.answered],
    [30, 'better', 30],
  );
  const both = await quern([...common, '--compare', file('second.jsonl'), '--json'], LIMIT);
  assert.equal(both.code, 0, both.stderr);
  const told = JSON.parse(both.stdout) as Told; // one document
  assert.deepEqual(
    told.comparison.differences.map(({ verdict }) => verdict),
    ['same', 'same', 'same', 'same', 'same'],
  );
});

test('what gets no answer is counted by its reason and fails the command', async (t) => {
  const mesh = await startMesh(t);
  const { sources, file } = workplace(t);
  let calls = 0;
  mesh.engine.settings.script = () => {
    calls++;
    mesh.engine.settings.refuse = calls === 3 ? new QuernError('RESOURCE_EXHAUSTED', 'full') : null;
    return bytesOf(LINE);
  };
  const options = ['--sources', sources, '--holes', '10', '--concurrency', '1', '--out', file('run.jsonl'), '--json'];
  const run = await quern(['eval', 'infill', '--gateway', mesh.gateway.grpcAddress, ...options], LIMIT);
  assert.equal(run.code, 1, run.stderr);
  const { figures } = JSON.parse(run.stdout) as Told;
  const { answered, failures } = figures.at(-1)!;
  assert.equal(answered + Object.values(failures).reduce((sum, one) => sum + one, 0), 10);
  assert.deepEqual(Object.keys(failures), ['RESOURCE_EXHAUSTED']);
  assert.equal(storedIn(file('run.jsonl')).filter(({ failure }) => failure !== null).length, 10 - answered);
});

test('Ctrl-C keeps what was done, and the same command goes on from there', async (t) => {
  const mesh = await startMesh(t);
  const { sources, file } = workplace(t);
  let calls = 0;
  mesh.engine.settings.script = () => {
    mesh.engine.settings.holdFinished = ++calls > 4; // the fifth never ends
    return bytesOf(LINE);
  };
  const out = file('run.jsonl');
  const common = ['eval', 'infill', '--gateway', mesh.gateway.grpcAddress, '--sources', sources, '--concurrency', '1'];
  const args = [...common, '--holes', '10', '--out', out];
  const first = await untilRow(args, out, async (child) => {
    await eventually(() => calls === 5, 'the fifth hole was asked for', LIMIT.timeoutMs);
    child.kill('SIGINT');
  });
  assert.deepEqual(
    [first.code, first.stderr],
    [130, `quern: stopped after 4 of 10 holes (${out} keeps them, the same command goes on from there)\n`],
  );
  assert.match(first.stdout, /\nnot finished: line holes, seed 1, .*\nanswered +4\n/s);
  assert.equal(storedIn(out).length, 4);
  mesh.engine.settings.script = () => bytesOf(LINE);
  mesh.engine.settings.holdFinished = false;
  const other = await quern([...args, '--seed', '2'], LIMIT);
  assert.match(other.stderr, /run\.jsonl holds a part of another run \(other seed\); name another file, or begin anew/);
  const second = await quern(args, LIMIT);
  assert.equal(second.code, 0, second.stderr);
  assert.match(second.stderr, /going on after 4 of 10 holes in /);
  assert.equal(mesh.engine.requests.length, 5 + 6);
  const fresh = await quern([...common, '--holes', '10', '--out', file('fresh.jsonl')], LIMIT);
  assert.equal(fresh.code, 0, fresh.stderr);
  const ids = (name: string): string[] => storedIn(name).map(({ id }) => id);
  assert.deepEqual(ids(out), ids(file('fresh.jsonl')));
  const third = await quern(args, LIMIT);
  assert.deepEqual([third.code, /holds a run of mock, .* --force/.test(third.stderr)], [2, true], third.stderr);
  assert.equal((await quern([...args, '--force'], LIMIT)).code, 0);
});

test('a mesh that goes away ends the run, which keeps what was done', async (t) => {
  const mesh = await startMesh(t);
  const { sources, file } = workplace(t);
  let calls = 0;
  mesh.engine.settings.script = () => {
    mesh.engine.settings.holdFinished = ++calls > 4;
    return bytesOf(LINE);
  };
  const out = file('run.jsonl');
  const options = ['--sources', sources, '--concurrency', '1', '--holes', '20', '--out', out];
  const args = ['eval', 'infill', '--gateway', mesh.gateway.grpcAddress, ...options];
  const run = await untilRow(args, out, async () => {
    await eventually(() => calls === 5, 'the fifth hole was asked for', LIMIT.timeoutMs);
    await mesh.gateway.close();
  });
  assert.equal(run.code, 1, run.stderr);
  assert.match(run.stderr, /^quern: stopped after [45] of 20 holes \(.* keeps them, .*\): no mesh answers at .*\n$/);
  assert.ok(storedIn(out).filter(({ failure }) => failure === null).length === 4);
});

test('what is wrong is said before the model works', async (t) => {
  const mesh = await startMesh(t);
  const { sources, file } = workplace(t);
  writeFileSync(file('other.jsonl'), '{}\n');
  const gateway = ['--gateway', mesh.gateway.grpcAddress];
  const cases: [args: string[], code: number, said: RegExp][] = [
    [['eval'], 2, /quern eval: expected one of infill, compare, got nothing; see quern eval --help/],
    [['eval', 'infil'], 2, /got "infil"; did you mean "?infill/],
    [['eval', 'infill', ...gateway, '--kind', 'word'], 2, /--kind: expected one of line, span, block, got "word"/],
    [['eval', 'infill', ...gateway, 'src'], 2, /expected no further words, got "src"; folders go after --sources/],
    [['eval', 'infill', ...gateway, '--sources', file('none')], 2, /--sources: expected a folder or file, got .*none/],
    [
      ['eval', 'infill', ...gateway, '--out', file('none/run.jsonl')],
      2,
      /--out: .*run\.jsonl cannot be written \(ENOENT\)/,
    ],
    [['eval', 'infill', ...gateway, '--compare', file('other.jsonl')], 2, /other\.jsonl:1: format: /],
    [['eval', 'infill', ...gateway, '--out', file('other.jsonl')], 2, /other\.jsonl is there already; .* --force/],
    [
      ['eval', 'infill', ...gateway, '--sources', sources, '--compare', STORED],
      2,
      /nothing to compare: .* \(line holes with seed 1 and line holes with seed 1, of other files\)/,
    ],
    [
      ['eval', 'infill', ...gateway, '--compare', STORED, '--fail-on-regression', '--before', '9'],
      2,
      /--fail-on-regression: expected runs of the same settings, got lines_before 255 then, 9 now/,
    ],
    [
      ['eval', 'infill', ...gateway, '--sources', sources, '--kind', 'block'],
      2,
      /no place for a block hole in 1 file;/,
    ],
    [['eval', 'infill', ...gateway, '--sources', sources, '--model', 'other'], 1, /other/],
    [['eval', 'infill', '--gateway', '127.0.0.1:1', '--sources', sources], 1, /127\.0\.0\.1:1/],
    [['eval', 'compare', 'one'], 2, /expected two files, quern eval compare EARLIER LATER; got one/],
  ];
  for (const [args, code, said] of cases) {
    const run = await quern(args, LIMIT);
    assert.match(run.stderr, said);
    assert.equal(run.code, code, `${args.join(' ')}: ${run.stderr}`);
  }
  assert.equal(mesh.engine.requests.length, 0);
});
