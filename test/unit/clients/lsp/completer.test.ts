import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Answer } from '../../../../clients/lsp/core/completer.ts';
import { type ContextChunk, InfillFailure } from '../../../../clients/lsp/core/infill-source.ts';
import { type Bench, startBench } from './support/scripted-mesh.ts';
import { Typist } from './support/typist.ts';

const shown = (answer: Answer | null): string | undefined => answer?.suggestions[0]?.insertText;

test('an automatic request waits for a pause, asks once, and is answered', async () => {
  const bench = startBench(() => 'print(total)');
  const typist = new Typist(bench, 'total = 1\n');
  const first = typist.key('p');
  await bench.clock.advance(50);
  assert.equal(bench.mesh.asked.length, 0, 'within the debounce');
  const second = typist.key('r');
  await bench.clock.advance(2_000);
  assert.equal((await first.answer).reason, 'DEBOUNCED');
  assert.equal(bench.mesh.asked.length, 1);
  assert.equal(bench.mesh.asked[0]?.query.prefix, 'total = 1\npr');
  assert.equal(bench.mesh.asked[0]?.query.priority, 'automatic');
  assert.equal(shown(await second.answer), 'print(total)');
});

test('a request by hand is sent at once, for several candidates, without doubles', async () => {
  const bench = startBench((_, choice) => ['alpha()', 'beta()', 'alpha()'][choice] ?? '');
  const typist = new Typist(bench, 'x = ');
  const asking = typist.ask(true);
  await bench.clock.advance(0);
  assert.equal(bench.mesh.asked[0]?.query.candidates, 3);
  assert.equal(bench.mesh.asked[0]?.query.priority, 'invoked');
  await bench.clock.advance(1_000);
  const { suggestions } = await asking.answer;
  assert.deepEqual(
    suggestions.map(({ insertText }) => insertText),
    ['alpha()', 'beta()'],
  );
});

test('what is off sends nothing: wholly, by language, automatic only', async () => {
  for (const off of [{ enabled: false }, { languages: { python: false } }, { automatic: false }]) {
    const bench = startBench(() => 'text', off);
    const typist = new Typist(bench, 'x = ');
    const asking = typist.ask();
    await bench.clock.advance(5_000);
    assert.equal((await asking.answer).reason, 'DISABLED');
    assert.equal(bench.mesh.asked.length, 0);
    assert.equal(bench.clock.pending, 0, 'no timer is left');
  }
});

test('a file that may not be sent, and a place within text, are refused with their reasons', async () => {
  const secret = startBench(() => 'text', {}, { describe: () => null });
  assert.equal((await new Typist(secret, 'KEY=').ask(true).answer).reason, 'EXCLUDED');
  const bench = startBench(() => 'text');
  const typist = new Typist(bench, 'value = compute(first, second)', 8);
  assert.equal((await typist.ask().answer).reason, 'PLACE');
  assert.equal(secret.mesh.asked.length + bench.mesh.asked.length, 0);
});

test('a position that the document does not have is stale, as is a document that is not open', async () => {
  const bench = startBench(() => 'text');
  new Typist(bench, 'one line');
  const signal = new AbortController().signal;
  const ask = (uri: string, line: number, character: number) =>
    bench.completer.complete({ uri, position: { line, character }, invoked: true }, { signal });
  assert.equal((await ask('file:///project/a.py', 0, 99)).reason, 'STALE');
  assert.equal((await ask('file:///project/a.py', 7, 0)).reason, 'STALE');
  assert.equal((await ask('file:///project/other.py', 0, 0)).reason, 'STALE');
});

test('a cancel is answered at once and ends the query', async () => {
  const bench = startBench(() => 'text');
  const typist = new Typist(bench, 'x = ');
  const asking = typist.ask(true);
  await bench.clock.advance(20);
  assert.equal(bench.mesh.running, 1);
  asking.cancel();
  await bench.clock.advance(0);
  assert.equal(asking.got?.reason, 'CANCELLED');
  assert.equal(bench.mesh.asked[0]?.outcome, 'cancelled');
});

test('an edit before the answer makes it stale', async () => {
  const bench = startBench(() => 'text');
  const typist = new Typist(bench, 'x = ');
  const asking = typist.ask(true);
  await bench.clock.advance(20);
  typist.edit('y');
  await bench.clock.advance(1_000);
  assert.equal(asking.got?.reason, 'STALE');
});

test('typing what was suggested is answered from the cache, over line ends too', async () => {
  const text = 'first()\n    second()\n    third()';
  const bench = startBench(() => text);
  const typist = new Typist(bench, 'def f():\n    ');
  typist.ask();
  await bench.clock.advance(3_000);
  assert.equal(shown(typist.askings[0]?.got ?? null), `    ${text}`);
  for (const char of 'first()\n    se') {
    const { got } = typist.key(char);
    await bench.clock.advance(0);
    assert.equal(got ?? typist.askings.at(-1)?.got?.from, 'cache', `behind ${JSON.stringify(char)}`);
  }
  assert.equal(shown(typist.askings.at(-1)?.got ?? null), 'cond()\n    third()');
  assert.equal(bench.mesh.asked.length, 1);
  const other = typist.key('x');
  await bench.clock.advance(0);
  assert.equal(other.got, null, 'something else is typed: the mesh is asked again');
});

test('who typed all that a running query says is asked about anew', async () => {
  const bench = startBench(({ prefix }) => (prefix.endsWith('ab') ? 'cd()' : 'ab'));
  Object.assign(bench.mesh, { charsPerStep: 2, stepMs: 200 });
  const typist = new Typist(bench, 'x = ');
  typist.ask();
  await bench.clock.advance(250);
  assert.equal(bench.mesh.running, 1);
  typist.edit('ab');
  const asking = typist.ask(false, false);
  await bench.clock.advance(3_000);
  assert.equal(shown(asking.got), 'cd()');
});

test('the same prefix before another suffix is another place', async () => {
  const bench = startBench(({ suffix }) => (suffix.includes('b') ? 'for_b' : 'for_a'));
  const typist = new Typist(bench, 'x = \n# a', 4);
  typist.ask();
  await bench.clock.advance(3_000);
  const place = typist.offset;
  typist.offset = typist.text.length - 1;
  typist.edit('b', 1);
  typist.offset = place;
  const asking = typist.ask();
  await bench.clock.advance(3_000);
  assert.equal(shown(asking.got), 'for_b');
});

test('at the soft deadline what is there is shown, and the rest still comes into the cache', async () => {
  const bench = startBench(() => 'abcdefghij_klmnopqrst_uvwxyz', { softDeadlineMs: 400 });
  Object.assign(bench.mesh, { firstTextMs: 50, stepMs: 60, charsPerStep: 4 });
  const typist = new Typist(bench, 'x = ');
  const asking = typist.ask(true);
  await bench.clock.advance(400);
  assert.equal(asking.got?.partial, true);
  const part = shown(asking.got) ?? '';
  assert(part.length > 0 && part.length < 28, part);
  await bench.clock.advance(5_000);
  const next = typist.key('a');
  await bench.clock.advance(0);
  assert.equal(shown(next.got), 'bcdefghij_klmnopqrst_uvwxyz');
});

test('what came until the hard deadline is kept for what is typed of it', async () => {
  const bench = startBench(() => 'abcdefghij_klmnopqrst_uvwxyz', { softDeadlineMs: 200, hardDeadlineMs: 400 });
  Object.assign(bench.mesh, { firstTextMs: 50, stepMs: 60, charsPerStep: 4 });
  const typist = new Typist(bench, 'x = ');
  typist.ask(true);
  await bench.clock.advance(500);
  assert.equal(bench.mesh.asked[0]?.outcome, 'cancelled');
  const next = typist.key('a');
  await bench.clock.advance(0);
  assert.match(shown(next.got) ?? '', /^bcdefghij_klm/);
});

test('a part that the filters refuse is not the answer while more is to come', async () => {
  const bench = startBench(() => '((((compute(y)', { softDeadlineMs: 200 });
  Object.assign(bench.mesh, { firstTextMs: 50, stepMs: 300, charsPerStep: 4 });
  const asking = new Typist(bench, 'x = ').ask(true);
  await bench.clock.advance(250);
  assert.equal(asking.got, null);
  await bench.clock.advance(3_000);
  assert.equal(shown(asking.got)?.startsWith('((((comp'), true);
});

test('a mesh that says nothing in time is a TIMEOUT, and its query ends', async () => {
  const bench = startBench(() => 'text', { softDeadlineMs: 100, hardDeadlineMs: 300 });
  bench.mesh.firstTextMs = 60_000;
  const asking = new Typist(bench, 'x = ').ask(true);
  await bench.clock.advance(400);
  assert.equal(asking.got?.reason, 'TIMEOUT');
  assert.equal(bench.mesh.running, 0);
  assert.equal(bench.clock.pending, 0);
});

test('every kind of failure has its reason; the lasting ones keep typing from being sent', async () => {
  const kinds = [
    ['offline', 'OFFLINE', true],
    ['overloaded', 'OVERLOADED', true],
    ['unauthenticated', 'UNAUTHENTICATED', true],
    ['no_fim', 'MODEL_NO_FIM', true],
    ['failed', 'FAILED', false],
  ] as const;
  for (const [kind, reason, lasting] of kinds) {
    const bench = startBench(() => 'text');
    bench.mesh.fails = new InfillFailure(kind, 'no');
    const typist = new Typist(bench, 'x = ');
    typist.ask();
    await bench.clock.advance(900);
    assert.equal(typist.askings[0]?.got?.reason, reason);
    const again = typist.key('y');
    await bench.clock.advance(0);
    assert.equal(again.got?.reason ?? 'sent', lasting ? reason : 'sent', kind);
    bench.mesh.fails = null;
    const byHand = typist.ask(true);
    await bench.clock.advance(1_000);
    assert.equal(shown(byHand.got), 'text', 'by hand it is tried again');
    await bench.clock.advance(0);
    const after = typist.key('z');
    await bench.clock.advance(3_000);
    assert.equal(shown(after.got), 'text', 'and then typing is sent again');
  }
});

test('a model that has nothing to say is EMPTY, by the name and the trace of what was asked', async () => {
  const bench = startBench(() => '');
  const asking = new Typist(bench, 'x = ').ask(true);
  await bench.clock.advance(1_000);
  const { query } = bench.mesh.asked[0]!;
  assert.deepEqual(asking.got, {
    ...{ id: query.requestId, suggestions: [], reason: 'EMPTY', rule: null, from: 'stream', partial: false },
    traceId: `trace-${query.requestId}`,
  });
});

test('a filtered text names its rule, and is not asked for again', async () => {
  const bench = startBench(() => ' );');
  const typist = new Typist(bench, 'x = ');
  typist.ask();
  await bench.clock.advance(3_000);
  const [first] = typist.askings;
  assert.deepEqual([first?.got?.reason, first?.got?.rule], ['FILTERED', 'no-word']);
  assert.match(first?.got?.traceId ?? '', /^trace-/);
  const again = typist.ask();
  await bench.clock.advance(3_000);
  assert.deepEqual([again.got?.reason, again.got?.from], ['FILTERED', 'cache']);
  assert.equal(bench.mesh.asked.length, 1);
  const empty = startBench(() => '  \n ');
  const nothing = new Typist(empty, 'x = ').ask(true);
  await empty.clock.advance(1_000);
  assert.equal(nothing.got?.reason, 'EMPTY');
});

test('a text that leaves its block ends the stream early', async () => {
  const bench = startBench(() => `return 1\n\ndef other():\n${'    more()\n'.repeat(200)}`, { multiLine: 'always' });
  const asking = new Typist(bench, 'def f():\n    ').ask(true);
  await bench.clock.advance(600);
  assert.equal(shown(asking.got), '    return 1');
  assert.equal(bench.mesh.asked[0]?.outcome, 'cancelled', 'its place at the engine is free');
});

test('one line is asked for by the client; where a longer text ends, the mesh decides', async () => {
  const asked = async (text: string, more: Parameters<typeof startBench>[1] = {}): Promise<string | undefined> => {
    const bench = startBench(() => 'text', more);
    new Typist(bench, text).ask();
    await bench.clock.advance(1_000);
    return bench.mesh.asked[0]?.query.ending;
  };
  assert.equal(await asked('x = '), 'single_line');
  assert.equal(await asked('def f():\n    '), 'auto');
  assert.equal(await asked('def f():\n    ', { multiLine: 'never' }), 'single_line');
  assert.equal(await asked('x = ', { multiLine: 'always' }), 'multi_line');
});

test('a request has the id of its trace before the mesh has said a word', async () => {
  const bench = startBench(() => 'text', { softDeadlineMs: 100, hardDeadlineMs: 300 });
  bench.mesh.fails = new InfillFailure('offline', 'nobody is there');
  const asking = new Typist(bench, 'x = ').ask(true);
  await bench.clock.advance(10);
  assert.equal(asking.got?.reason, 'OFFLINE');
  assert.equal(asking.got?.traceId, bench.mesh.asked[0]?.query.traceId);
  assert.match(asking.got?.traceId ?? '', /^[0-9]{32}$/);
});

test('a suggestion begins with what the editor has selected and replaces its range', async () => {
  const bench = startBench(({ prefix }) => (prefix.endsWith('sys.stdout') ? '.write(text)' : 'wrong'));
  new Typist(bench, 'import sys\nsys.st');
  const range = { start: { line: 1, character: 4 }, end: { line: 1, character: 6 } };
  const answer = bench.completer.complete(
    {
      uri: 'file:///project/a.py',
      position: { line: 1, character: 6 },
      invoked: true,
      selected: { range, text: 'stdout' },
    },
    { signal: new AbortController().signal },
  );
  await bench.clock.advance(1_000);
  assert.deepEqual((await answer).suggestions, [{ insertText: 'stdout.write(text)', range }]);
});

test('line ends are sent as LF and come back as the document has them', async () => {
  const bench = startBench(() => 'one()\n    two()', { multiLine: 'always' });
  const typist = new Typist(bench, 'a = 1\r\ndef f():\r\n    ');
  const asking = typist.ask(true);
  await bench.clock.advance(1_000);
  assert.equal(bench.mesh.asked[0]?.query.prefix, 'a = 1\ndef f():\n    ');
  assert.equal(shown(asking.got), '    one()\r\n    two()');
});

test('speculation asks for what follows, within its share, and makes way for the user', async () => {
  const bench = startBench(({ prefix }) => (prefix.endsWith('first') ? '.second' : 'first'), { speculate: true });
  const typist = new Typist(bench, 'x = ');
  typist.ask();
  await bench.clock.advance(3_000);
  const speculative = bench.mesh.asked.find(({ query }) => query.priority === 'speculative');
  assert.equal(speculative?.query.prefix, 'x = first');
  typist.edit('first');
  const next = typist.ask();
  await bench.clock.advance(0);
  assert.deepEqual([shown(next.got), next.got?.from], ['.second', 'cache']);
  assert.equal(speculative?.outcome, 'ended');
});

test('a speculative query makes way for what the user asks', async () => {
  const bench = startBench(() => 'first', { speculate: true });
  const typist = new Typist(bench, 'x = ');
  typist.ask();
  await bench.clock.advance(450);
  const [, speculative] = bench.mesh.asked;
  assert.deepEqual([speculative?.query.priority, speculative?.outcome], ['speculative', 'running']);
  typist.edit('other');
  const asking = typist.ask(true);
  await bench.clock.advance(0);
  assert.equal(speculative?.outcome, 'cancelled');
  await bench.clock.advance(1_000);
  assert.equal(shown(asking.got), 'first');
});

test('what is shed of asking ahead keeps nothing back that somebody waits for, and is not tried again at once', async () => {
  const bench = startBench(({ prefix }) => (prefix.endsWith('= ') ? 'first' : 'second'), { speculate: true });
  bench.mesh.failsFor = ({ priority }) =>
    priority === 'speculative' ? new InfillFailure('overloaded', 'full', { retryAfterMs: 20_000 }) : null;
  const typist = new Typist(bench, 'x = ');
  for (const seconds of [3, 3, 20]) {
    typist.edit(`\ny${seconds} = `);
    const asking = typist.ask();
    await bench.clock.advance(seconds * 1_000);
    assert.equal(shown(asking.got), 'first');
  }
  const ahead = () => bench.mesh.asked.filter(({ query }) => query.priority === 'speculative').length;
  assert.equal(ahead(), 1);
  typist.edit('\nz = ');
  typist.ask();
  await bench.clock.advance(3_000);
  assert.equal(ahead(), 2, 'after as long as the mesh said');
});

test('what is late to stand beside the prompt is left out after 100 ms; what fails, at once', async () => {
  const chunk = { path: 'b.py', text: 'b = 2\n' };
  const cases: [number | null, readonly ContextChunk[], number][] = [
    [99, [chunk], 99],
    [101, [], 100],
    [null, [], 0],
  ];
  for (const [lateMs, expected, sentAt] of cases) {
    const chunksFor = (): Promise<ContextChunk[]> =>
      lateMs === null
        ? Promise.reject(new Error('the disk is gone'))
        : new Promise((resolve) => bench.clock.after(lateMs, () => resolve([chunk])));
    const bench: Bench = startBench(() => 'text', {}, { chunksFor });
    new Typist(bench, 'x = ').ask(true);
    await bench.clock.advance(200);
    const [asked] = bench.mesh.asked;
    assert.deepEqual(asked?.query.chunks, expected);
    assert.equal(asked?.at, sentAt);
  }
});

test('speculation makes at most a fifth of all generated text, past a small start', async () => {
  let count = 0;
  const bench = startBench(() => `name_${count++}(of_some_length, with_several_arguments, that_are_all_different)`, {
    speculate: true,
  });
  const typist = new Typist(bench, 'x = ');
  for (let i = 0; i < 60; i++) {
    typist.edit(`\ny${i} = `);
    typist.ask();
    await bench.clock.advance(3_000);
  }
  const ended = (priority: string): number =>
    bench.mesh.asked.filter(({ query, outcome }) => query.priority === priority && outcome === 'ended').length;
  assert.equal(ended('automatic'), 60);
  assert(ended('speculative') > 5 && ended('speculative') <= 18, `${ended('speculative')} speculative queries`);
});
