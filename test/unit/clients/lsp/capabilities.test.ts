import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Capabilities } from '../../../../clients/lsp/core/capabilities.ts';
import { InfillFailure } from '../../../../clients/lsp/core/infill-source.ts';
import {
  CAPABILITIES_FRESH_MS,
  CAPABILITIES_MS_MAX,
  CAPABILITIES_RETRY_MS,
  PREFIX_CHARS_READ,
  SUFFIX_CHARS_READ,
} from '../../../../clients/lsp/core/limits.ts';
import { startBench } from './support/scripted-mesh.ts';
import { Typist } from './support/typist.ts';

const FACTS: Capabilities = {
  ...{ infill: true, fimFamily: 'fim', tokenizerHash: 'a'.repeat(64), chunksMax: 256 },
  endings: ['single_line', 'multi_line', 'auto'],
  ...{ contextLength: 0, infillPromptTokens: 0, modelHash: 'm1', ready: true },
};

/** A mesh that says what `say` answers, after `ms`. */
function startTelling(say: () => Partial<Capabilities> | InfillFailure, script = () => 'text', ms = 5) {
  const asked: string[] = [];
  const signals: AbortSignal[] = [];
  const chunks = ['one', 'two', 'three'].map((path) => ({ path, text: path }));
  const bench = startBench(
    script,
    {},
    { chunksFor: () => chunks },
    {
      async capabilities(model, { signal }) {
        asked.push(model);
        signals.push(signal);
        await new Promise<void>((resolve) => bench.clock.after(ms, resolve));
        const said = say();
        if (said instanceof InfillFailure) throw said;
        return { ...FACTS, ...said };
      },
    },
  );
  return { bench, asked, signals, typist: new Typist(bench, 'def f():\n    ') };
}

test('what the mesh can do is asked once, beside the wait for a pause, and again for another model', async () => {
  const { bench, asked, typist } = startTelling(() => ({}));
  for (let i = 0; i < 3; i++) {
    typist.key('x');
    await bench.clock.advance(2_000);
  }
  assert.deepEqual(asked, ['']);
  Object.assign(bench.settings, { model: 'other' });
  typist.key('y');
  await bench.clock.advance(2_000);
  assert.deepEqual(asked, ['', 'other']);
});

test('a model that cannot fill in is told without an infill, and asked about again later or by hand', async () => {
  let infill = false;
  const { bench, asked, typist } = startTelling(() => ({ infill }));
  const first = typist.ask(true);
  await bench.clock.advance(10);
  assert.equal(first.got?.reason, 'MODEL_NO_FIM');
  assert.match(bench.completer.lastFailure, /fill-in-the-middle; name one/);
  const typed = typist.key('x');
  await bench.clock.advance(0);
  assert.equal(typed.got?.reason, 'MODEL_NO_FIM', 'at once, without a question');
  assert.equal(asked.length, 1);
  typist.ask(true);
  await bench.clock.advance(10);
  assert.equal(asked.length, 2);
  assert.equal(bench.mesh.asked.length, 0);
  infill = true;
  await bench.clock.advance(CAPABILITIES_RETRY_MS);
  const later = typist.key('y');
  await bench.clock.advance(2_000);
  assert.equal(later.got?.suggestions.length, 1);
});

test('a mesh that was not told of its model yet, or does not know the question, is asked for text all the same', async () => {
  for (const said of [{ infill: false, tokenizerHash: '' }, new InfillFailure('no_fim', 'unimplemented')]) {
    const { bench, asked, typist } = startTelling(() => said);
    const first = typist.ask(true);
    await bench.clock.advance(1_000);
    assert.equal(first.got?.suggestions.length, 1);
    typist.ask(true);
    await bench.clock.advance(1_000);
    assert.equal(asked.length, 1, 'not at every request');
  }
});

test('an answer that is late holds a request up for a moment only', async () => {
  const { bench, typist } = startTelling(
    () => ({}),
    () => 'text',
    60_000,
  );
  typist.ask(true);
  await bench.clock.advance(CAPABILITIES_MS_MAX);
  assert.equal(bench.mesh.asked.length, 1);
});

test('no more files go beside a prompt than the mesh takes, the newest', async () => {
  for (const [chunksMax, paths] of [
    [2, ['two', 'three']],
    [0, []],
  ] as const) {
    const { bench, typist } = startTelling(() => ({ chunksMax }));
    typist.ask(true);
    await bench.clock.advance(50);
    assert.deepEqual(
      bench.mesh.asked[0]?.query.chunks.map(({ path }) => path),
      paths,
    );
  }
});

test('what another vocabulary said is not shown from the cache', async () => {
  let tokenizerHash = 'a'.repeat(64);
  const { bench, asked, typist } = startTelling(() => ({ tokenizerHash }));
  typist.ask();
  await bench.clock.advance(2_000);
  const same = typist.ask();
  await bench.clock.advance(2_000);
  assert.equal(same.got?.from, 'cache');
  // The mesh goes away and comes back with another model.
  typist.edit('x');
  bench.mesh.fails = new InfillFailure('offline', 'nobody is there');
  typist.ask(true);
  await bench.clock.advance(100);
  bench.mesh.fails = null;
  tokenizerHash = 'b'.repeat(64);
  typist.ask(true);
  await bench.clock.advance(2_000);
  assert.equal(asked.length, 2);
  typist.offset -= 1;
  typist.edit('', 1);
  const after = typist.ask();
  await bench.clock.advance(2_000);
  assert.equal(after.got?.from, 'stream');
});

test('what another model of the same vocabulary said is not shown from the cache', async () => {
  let model = 'small';
  const { bench, typist } = startTelling(() => ({ model }));
  typist.ask();
  await bench.clock.advance(2_000);
  // The mesh goes away and comes back with another model, which "" stands for now.
  typist.edit('x');
  bench.mesh.fails = new InfillFailure('offline', 'nobody is there');
  typist.ask(true);
  await bench.clock.advance(100);
  bench.mesh.fails = null;
  model = 'large';
  typist.ask(true);
  await bench.clock.advance(2_000);
  typist.offset -= 1;
  typist.edit('', 1);
  const after = typist.ask();
  await bench.clock.advance(2_000);
  assert.equal(after.got?.from, 'stream');
});

test('what a model said before it was trained anew is not shown from the cache, though its name and connection are the same', async () => {
  let modelHash = 'm1';
  const { bench, asked, typist } = startTelling(() => ({ modelHash }));
  const ask = async (): Promise<string | undefined> => {
    const answer = typist.ask();
    await bench.clock.advance(2_000);
    return answer.got?.from;
  };
  assert.deepEqual([await ask(), await ask()], ['stream', 'cache']);
  modelHash = 'm2';
  await bench.clock.advance(CAPABILITIES_FRESH_MS);
  // Some other place is asked about, which says that it is another model by now.
  typist.edit('x');
  await ask();
  assert.equal(asked.length, 2);
  typist.offset -= 1;
  typist.edit('', 1);
  assert.deepEqual([await ask(), await ask()], ['stream', 'cache']);
  assert.equal(asked.length, 2, 'once in a minute of use');
});

test('what was learnt is asked for again without waiting for the answer, and holds until it comes', async () => {
  const { bench, asked, typist } = startTelling(
    () => ({}),
    () => 'text',
    60,
  );
  const first = typist.ask(true);
  await bench.clock.advance(50);
  assert.deepEqual([bench.mesh.asked.length, first.got], [0, null], 'the first time it is waited for');
  await bench.clock.advance(CAPABILITIES_FRESH_MS);
  typist.ask(true);
  await bench.clock.advance(0);
  assert.deepEqual([asked.length, bench.mesh.asked.length], [2, 2], 'at once');
  await bench.clock.advance(1_000);
});

test('a mesh whose engine has not told yet which weights it has is asked again; an old one never tells', async () => {
  for (const [said, times] of [
    [{ modelHash: '', ready: false }, 2],
    [{ modelHash: '', ready: true }, 1],
  ] as const) {
    const { bench, asked, typist } = startTelling(() => said);
    typist.ask(true);
    await bench.clock.advance(CAPABILITIES_RETRY_MS);
    typist.ask(true);
    await bench.clock.advance(1_000);
    assert.equal(asked.length, times);
  }
});

test('what the model holds, and is best given, bounds what is sent and asked for', async () => {
  const { bench, typist } = startTelling(() => ({ contextLength: 64, infillPromptTokens: 0 }));
  typist.edit('value = 1\n'.repeat(600));
  typist.ask(true);
  await bench.clock.advance(2_000);
  typist.edit('x');
  typist.ask(true);
  await bench.clock.advance(2_000);
  const [first, second] = bench.mesh.asked.map(({ query }) => query);
  assert(first && second);
  assert.equal(first.maxTokens, 32, 'half of it, before the window is known');
  assert(second.prefix.length > 0 && second.prefix.length + second.suffix.length <= 4 * 32);
  const advised = startTelling(() => ({ contextLength: 2_048, infillPromptTokens: 448 }));
  advised.typist.edit('value = 1\n'.repeat(600));
  for (const _ of [1, 2]) {
    advised.typist.edit('x');
    advised.typist.ask(true);
    await advised.bench.clock.advance(2_000);
  }
  const last = advised.bench.mesh.asked.at(-1)?.query;
  assert(last && last.prefix.length <= PREFIX_CHARS_READ && last.suffix.length <= SUFFIX_CHARS_READ);
});

test('a text that the mesh ended is shown as it came, now and from the cache; of another mesh the client ends it', async () => {
  const text = 'text = """\nusage\n"""\n    show(text)';
  const knowing = startTelling(
    () => ({}),
    () => text,
  );
  const first = knowing.typist.ask();
  await knowing.bench.clock.advance(2_000);
  assert.equal(first.got?.suggestions[0]?.insertText, `    ${text}`);
  const again = knowing.typist.ask();
  await knowing.bench.clock.advance(0);
  assert.deepEqual([again.got?.from, again.got?.suggestions], ['cache', first.got?.suggestions]);
  const other = startTelling(
    () => ({ endings: [] }),
    () => text,
  );
  const cut = other.typist.ask();
  await other.bench.clock.advance(2_000);
  assert.equal(cut.got?.suggestions[0]?.insertText, '    text = """');
  // A mesh that ends texts without having said so before: what came in one piece is not judged twice either.
  const late = startTelling(
    () => new InfillFailure('failed', 'no'),
    () => 'first()\n    second()',
  );
  late.bench.mesh.endsScopes = true;
  const whole = late.typist.ask();
  await late.bench.clock.advance(2_000);
  assert.equal(whole.got?.suggestions[0]?.insertText, '    first()\n    second()');
});
