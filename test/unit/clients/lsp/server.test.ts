/** The server between an editor and a mesh: what holds while settings are on their way, and that off means nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CancellationTokenSource } from 'vscode-languageserver/node';
import { InfillFailure } from '../../../../clients/lsp/core/infill-source.ts';
import { SETTINGS_MS_MAX, WARM_IDLE_MS } from '../../../../clients/lsp/core/limits.ts';
import { type Session, startSession } from './support/session.ts';

/** Turns the clock until `answer` is there. */
async function waitFor<T>({ clock }: Session, answer: Promise<T>): Promise<T> {
  let isThere = false;
  void answer.then(() => {
    isThere = true;
  });
  while (!isThere) await clock.advance(10);
  return answer;
}

const texts = (items: { insertText: unknown }[]): unknown[] => items.map(({ insertText }) => insertText);

test('an editor that can be asked for settings is, at once; nothing is sent before it says that suggestions are off', async (t) => {
  const session = await startSession(t, { pulls: true });
  assert.equal(session.pulls.length, 1, 'without any change of settings');
  const asked = [session.complete(), session.complete(false)];
  await session.settle();
  await session.clock.advance(SETTINGS_MS_MAX - 1);
  assert.deepEqual(session.sent, []);
  session.pulls[0]?.answer({ enabled: false });
  assert.deepEqual(await Promise.all(asked), [[], []]);
  await session.settle();
  await session.clock.advance(600_000);
  assert.deepEqual(session.sent, []);
});

test('what was asked meanwhile is answered by the settings that came', async (t) => {
  const session = await startSession(t, { pulls: true, settings: { maxTokens: 8 } });
  const answer = session.complete();
  await session.settle();
  session.pulls[0]?.answer({ maxTokens: 16, gateway: 'second' });
  assert.deepEqual(texts(await waitFor(session, answer)), ['answer()']);
  assert.deepEqual(
    session.mesh.asked.map(({ query }) => query.maxTokens),
    [16],
  );
  assert.deepEqual(session.opened.at(-1), 'second');
});

test('an editor that never answers holds nothing up for longer than so long', async (t) => {
  const session = await startSession(t, { pulls: true, settings: { maxTokens: 8 } });
  const answer = session.complete();
  await session.settle();
  await session.clock.advance(SETTINGS_MS_MAX - 1);
  assert.deepEqual(session.sent, []);
  assert.deepEqual(texts(await waitFor(session, answer)), ['answer()']);
  assert.equal(session.mesh.asked[0]?.query.maxTokens, 8);
  assert.match(session.log.join(), /did not answer within 3 s/);
});

test('what is cancelled, or about another text by the time the settings come, is never sent', async (t) => {
  const session = await startSession(t, { pulls: true });
  const cancel = new CancellationTokenSource();
  const cancelled = session.complete(true, cancel.token);
  const answer = session.complete();
  await session.settle();
  cancel.cancel();
  assert.deepEqual(await cancelled, [], 'at once');
  const change = { textDocument: { uri: 'file:///project/a.py', version: 2 }, contentChanges: [{ text: 'other\n' }] };
  await session.editor.sendNotification('textDocument/didChange', change);
  await session.settle();
  session.pulls[0]?.answer({});
  assert.deepEqual(await answer, [], 'about a text that is gone');
  await session.settle();
  assert.deepEqual(session.sent, []);
});

test('settings that change: nothing is sent until they are known, and off is off', async (t) => {
  const session = await startSession(t, { pulls: true });
  session.pulls[0]?.answer({});
  await session.settle();
  await waitFor(session, session.complete());
  const before = session.sent.length;
  assert(before > 0);
  await session.editor.sendNotification('workspace/didChangeConfiguration', { settings: null });
  await session.settle();
  assert.equal(session.pulls.length, 2);
  const answer = session.complete();
  await session.settle();
  await session.clock.advance(SETTINGS_MS_MAX - 1);
  assert.equal(session.sent.length, before);
  session.pulls[1]?.answer({ enabled: false });
  assert.deepEqual(await answer, []);
  await session.clock.advance(600_000);
  assert.equal(session.sent.length, before, 'neither reports nor reading ahead');
  assert.equal(session.closed.at(-1), 0, 'the connection, which was the first, is closed too');
});

test('the same settings once more disturb nothing that runs', async (t) => {
  const session = await startSession(t, { pulls: true });
  session.pulls[0]?.answer({ maxTokens: 8 });
  await session.settle();
  const answer = session.complete();
  await session.settle();
  await session.clock.advance(50);
  assert.equal(session.mesh.running, 1);
  await session.editor.sendNotification('workspace/didChangeConfiguration', { settings: null });
  await session.settle();
  session.pulls[1]?.answer({ maxTokens: 8 });
  await session.settle();
  assert.deepEqual(texts(await waitFor(session, answer)), ['answer()']);
});

test('a file that was opened before the settings came is read ahead once they are there', async (t) => {
  const session = await startSession(t, { pulls: true });
  await session.clock.advance(SETTINGS_MS_MAX - 1);
  session.pulls[0]?.answer({ maxTokens: 8 });
  await session.settle();
  await session.clock.advance(WARM_IDLE_MS);
  assert.deepEqual(
    session.sent.filter((call) => call === 'warm'),
    ['warm'],
  );
});

test('what does not fit into the model is told once, and again for other settings', async (t) => {
  const session = await startSession(t, { settings: { maxTokens: 64 } });
  const told = (): string[] => session.log.filter((line) => /do not fit into the/.test(line));
  session.mesh.contextLength = 100;
  for (let i = 0; i < 3; i++) await waitFor(session, session.complete());
  await session.settle();
  assert.equal(told().length, 1, told().join('; '));
  assert.match(told()[0] ?? '', /maxTokens \(64\) and about 8192 tokens .* the 100 tokens of the model: 50 and 50 are/);
  assert.equal(session.mesh.asked.at(-1)?.query.maxTokens, 50);
  const settings = { quern: { maxTokens: 32 } };
  await session.editor.sendNotification('workspace/didChangeConfiguration', { settings });
  for (let i = 0; i < 2; i++) await waitFor(session, session.complete());
  await session.settle();
  assert.equal(told().length, 2, told().join('; '));
});

test('a failure is told once, however much the cache still answers, and again once the mesh had been there', async (t) => {
  const session = await startSession(t, { settings: { speculate: false } });
  const told = (): number => session.log.filter((line) => /no suggestions \(OFFLINE\): nobody/.test(line)).length;
  const away = new InfillFailure('offline', 'nobody is there');
  await waitFor(session, session.complete());
  for (const [fails, expected] of [
    [away, 1],
    [away, 1],
    [null, 1],
    [away, 2],
  ] as const) {
    session.mesh.fails = fails;
    await waitFor(session, session.complete());
    assert.deepEqual(texts(await waitFor(session, session.complete(false))), ['answer()'], 'from the cache');
    await session.settle();
    assert.equal(told(), expected);
  }
});

test('what cannot be is told once for as long as it is there', async (t) => {
  const session = await startSession(t, { settings: { enabeld: true, maxTokens: 'many' } });
  const push = async (quern: unknown): Promise<void> => {
    await session.editor.sendNotification('workspace/didChangeConfiguration', { settings: { quern } });
    await session.settle();
  };
  await push({});
  await push({ enabeld: true });
  assert.deepEqual(session.log, [
    'quern: maxTokens: expected a whole number from 1 to 1024, got "many"; it stays 64',
    'quern: enabeld: there is no such setting; did you mean enabled? it is passed over',
  ]);
  await push({ enabeld: null, maxTokens: 8, warn: true });
  assert.match(session.log.at(-1) ?? '', /^quern: warn: there is no such setting; did you mean warm\?/);
});

test('settings that change nothing about what was read ahead do not have it read again', async (t) => {
  const session = await startSession(t, {});
  const warmed = (): number => session.sent.filter((call) => call === 'warm').length;
  await session.clock.advance(WARM_IDLE_MS);
  assert.equal(warmed(), 1);
  for (const maxTokens of [8, 8, 16]) {
    await session.editor.sendNotification('workspace/didChangeConfiguration', { settings: { maxTokens } });
    await session.settle();
    await session.clock.advance(60_000);
  }
  assert.equal(warmed(), 1);
});
