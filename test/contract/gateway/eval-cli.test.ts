/** `quern eval infill` as a user runs it, against a real gateway with a scripted engine. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { QuernError } from '#kit/errors.ts';
import { quern } from '../../e2e/mesh.ts';
import { startMesh } from './fakes/mesh.ts';
import { bytesOf } from './fakes/mock-tokenizer.ts';

/** Forty lines that are all the same, so that one answer is right wherever a whole line was cut out. */
const LINE = 'total = compute(total)';
const TEXT = `${LINE}\n`.repeat(40);

function workplace(t: TestContext): { sources: string; file: (name: string) => string } {
  const folder = mkdtempSync(join(tmpdir(), 'quern-eval-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const sources = join(folder, 'same.py');
  writeFileSync(sources, TEXT);
  return { sources, file: (name) => join(folder, name) };
}

type Stored = { id: string; failure: string | null; exact: boolean; wanted?: string; got?: string; latency_ms: number };
const storedIn = (file: string): Stored[] =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line) as Stored);

const LIMIT = { timeoutMs: 300_000 };

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
  assert.match(second.stdout, /30 holes in both; 0 holes only in the earlier run and 0 only in the later/);
  assert.match(second.stdout, /exact match +0\.\d+ +0\.000 +-0\.\d+ .* worse/);
  assert.match(second.stderr, /quern: exact is 0\.000, below 0\.1\nquern: exact is worse by 0\.\d+ than before/);
  assert.deepEqual(
    storedIn(file('second.jsonl')).map(({ id }) => id),
    rows.map(({ id }) => id),
  );
  assert.ok(!readFileSync(file('second.jsonl'), 'utf8').includes('compute'), 'no source text without --with-text');
  const again = await quern(['eval', 'compare', file('second.jsonl'), file('first.jsonl'), '--json'], LIMIT);
  assert.equal(again.code, 0, again.stderr);
  const { pairs, differences } = JSON.parse(again.stdout) as { pairs: number; differences: { verdict: string }[] };
  assert.deepEqual([pairs, differences[0]?.verdict], [30, 'better']);
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
  const { figures } = JSON.parse(run.stdout) as { figures: { answered: number; failures: Record<string, number> }[] };
  const { answered, failures } = figures.at(-1)!;
  assert.equal(answered + Object.values(failures).reduce((sum, one) => sum + one, 0), 10);
  assert.deepEqual(Object.keys(failures), ['RESOURCE_EXHAUSTED']);
  assert.equal(storedIn(file('run.jsonl')).filter(({ failure }) => failure !== null).length, 10 - answered);
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
    [
      ['eval', 'infill', ...gateway, '--sources', sources, '--kind', 'block'],
      2,
      /no place for a block hole in 1 files/,
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
