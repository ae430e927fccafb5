/** Typing as people and machines do it, on a virtual clock: what a fast typist sees, what it costs, and what never happens. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLIGHTS_MAX } from '../../../../clients/lsp/core/limits.ts';
import { startBench } from './support/scripted-mesh.ts';
import { Typist } from './support/typist.ts';

const SOURCE = `def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


def variance(values):
    center = mean(values)
    return mean([(value - center) ** 2 for value in values])
`;

/** A model that knows the file: it goes on with what the typist is about to type. */
const knows = ({ prefix }: { prefix: string }): string => {
  const rest = SOURCE.slice(prefix.length);
  return SOURCE.startsWith(prefix) ? rest.slice(0, rest.indexOf('\n') + 1 || undefined) : '';
};

/** Numbers that look random and are the same in every run. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

test('who types without a pause faster than the mesh answers still sees suggestions', async () => {
  const bench = startBench(knows);
  Object.assign(bench.mesh, { firstTextMs: 350, stepMs: 20, charsPerStep: 6 });
  const typist = new Typist(bench, '');
  let seen = 0;
  for (const char of SOURCE) {
    const asking = typist.key(char);
    await bench.clock.advance(70);
    if (asking.got?.suggestions.length) seen++;
  }
  await bench.clock.advance(20_000);
  assert(seen >= SOURCE.length * 0.1, `${seen} of ${SOURCE.length} keys were answered with a suggestion`);
  assert(bench.mesh.runningMax <= FLIGHTS_MAX, `${bench.mesh.runningMax} queries at once`);
  assert.equal(bench.clock.pending, 0);
});

test('a slow mesh that guesses wrong is not flooded, and what survives is not superseded by the next', async () => {
  const bench = startBench(() => 'zebra '.repeat(10));
  Object.assign(bench.mesh, { firstTextMs: 900, stepMs: 100, charsPerStep: 6 });
  const typist = new Typist(bench, '');
  const random = numbers(3);
  for (const char of SOURCE) {
    typist.key(char);
    await bench.clock.advance(random.next().value > 0.9 ? 450 : 70);
  }
  await bench.clock.advance(20_000);
  const perHundred = (bench.mesh.asked.length / SOURCE.length) * 100;
  assert(perHundred <= 25, `${perHundred.toFixed(1)} requests per 100 keys`);
  assert.equal(bench.mesh.runningMax, FLIGHTS_MAX, 'one that survives, and one that the next key cancels');
  assert.equal(bench.mesh.clashes, 0);
  assert.equal(bench.clock.pending, 0);
});

test('a replay of typing with pauses keeps to its budget: requests, queries at once, cache', async () => {
  const bench = startBench(knows);
  const typist = new Typist(bench, '');
  const random = numbers(7);
  let fromCache = 0;
  let answered = 0;
  for (const char of SOURCE) {
    const asking = typist.key(char);
    const pause = random.next().value;
    await bench.clock.advance(pause > 0.95 ? 900 : 60 + pause * 180);
    if (asking.got?.from === 'cache') fromCache++;
    if (asking.got) answered++;
  }
  await bench.clock.advance(20_000);
  const perHundred = (bench.mesh.asked.length / SOURCE.length) * 100;
  assert(perHundred <= 25, `${perHundred.toFixed(1)} requests per 100 keys`);
  assert(bench.mesh.runningMax <= FLIGHTS_MAX);
  assert(fromCache / SOURCE.length >= 0.3, `${fromCache} of ${SOURCE.length} keys came from the cache`);
  assert(answered > 0);
});

const ALPHABET = ['a', 'b', ' ', '\n', '(', ')', '{', '}', 'é', '𝒳', '"', '\t', '    ', 'return ', '\r\n', '.'];
const SAID = [
  'x()',
  'return a\n    b\n',
  ') + b',
  '"',
  '}\n',
  'a',
  '',
  '<|fim_middle|>b',
  'b = 1\nb = 1\nb = 1\n',
  '𝒳é',
];

/** One edit or move, in the units that editors use. */
function disturb(typist: Typist, random: Generator<number, never>): void {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next().value * list.length)]!;
  const what = random.next().value;
  if (what < 0.2) typist.offset = Math.floor(random.next().value * (typist.text.length + 1));
  // Editors do not put a cursor between the halves of a character or of a line end.
  while (/[\udc00-\udfff]/.test(typist.text[typist.offset] ?? '')) typist.offset--;
  if (typist.text[typist.offset] === '\n' && typist.text[typist.offset - 1] === '\r') typist.offset--;
  const removed = what < 0.1 ? Math.floor(random.next().value * Math.min(20, typist.text.length - typist.offset)) : 0;
  typist.edit(removed > 0 && what < 0.05 ? '' : pick(ALPHABET), removed);
}

test('1,000 random edits: no stale, overlapping or unanswered suggestion', async () => {
  const random = numbers(20261121);
  const bench = startBench(() => SAID[Math.floor(random.next().value * SAID.length)] ?? '', { speculate: true });
  const typist = new Typist(bench, 'def f():\n    a\n');
  let suggestions = 0;
  for (let i = 0; i < 1_000; i++) {
    disturb(typist, random);
    Object.assign(bench.mesh, { firstTextMs: random.next().value * 400, stepMs: random.next().value * 60 });
    const { version, text } = typist;
    const line = bench.documents.get(typist.uri)!.positionAt(typist.offset).line;
    const asking = typist.ask(random.next().value < 0.15, random.next().value < 0.7);
    asking.answer.then((answer) => {
      assert.equal(answer.suggestions.length === 0, answer.reason !== null, 'a suggestion, or the reason for none');
      for (const { insertText, range } of answer.suggestions) {
        suggestions++;
        assert.equal(bench.documents.get(typist.uri)?.version, version, 'the document is the one that was asked about');
        assert.deepEqual([range.start.line, range.end.line], [line, line], 'the range lies in the line');
        const width = (text.split(/\r\n|\n|\r/)[line] ?? '').length;
        assert(range.start.character <= range.end.character && range.end.character <= width, 'and within it');
        assert(insertText.trim() !== '' && !/<\|/.test(insertText));
      }
    });
    await bench.clock.advance(0);
    const open = typist.askings.filter(({ got }) => got === null);
    assert(open.length <= 1, 'who asks anew has the answer to what they asked before');
    // An edit that nobody asks behind: what is on its way is about a text that is no more.
    if (random.next().value < 0.2) {
      await bench.clock.advance(random.next().value * 200);
      disturb(typist, random);
    }
    await bench.clock.advance(random.next().value < 0.1 ? 1_500 : random.next().value * 300);
    assert(bench.mesh.running <= FLIGHTS_MAX, `${bench.mesh.running} queries at once`);
  }
  await bench.clock.advance(30_000);
  const answers = await Promise.all(typist.askings.map(({ answer }) => answer));
  assert.equal(answers.length, 1_000);
  assert(suggestions > 50, `only ${suggestions} suggestions were made: the test shows little`);
  assert.equal(bench.mesh.running, 0);
  assert.equal(bench.mesh.clashes, 0);
  assert.equal(bench.clock.pending, 0, 'no timer is left behind');
});
