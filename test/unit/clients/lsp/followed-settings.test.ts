import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SETTINGS_MS_MAX } from '../../../../clients/lsp/core/limits.ts';
import { type Fields, FollowedSettings } from '../../../../clients/lsp/followed-settings.ts';
import { VirtualClock } from './support/virtual-clock.ts';

type Answer = { resolve: (given: unknown) => void; reject: (error: Error) => void };

/** Settings of an editor that answers when the test says so. */
function follow() {
  const clock = new VirtualClock();
  const asked: Answer[] = [];
  const applied: Fields[] = [];
  const warnings: string[] = [];
  const followed = new FollowedSettings({
    clock,
    pull: () => new Promise((resolve, reject) => asked.push({ resolve, reject })),
    apply: (given) => applied.push(given),
    warn: (message) => warnings.push(message),
  });
  return { clock, asked, applied, warnings, followed };
}

test('an editor that can be asked is, and until it answers nothing is settled', async () => {
  const { clock, asked, applied, warnings, followed } = follow();
  followed.start({ enabled: true, maxTokens: 8 }, true);
  assert(followed.unsettled, 'before it may be asked already');
  assert.deepEqual(applied, [{ enabled: true, maxTokens: 8 }], 'what it gave holds until then');
  void followed.ready();
  assert.equal(asked.length, 1);
  asked[0]?.resolve({ enabled: false });
  await clock.advance(0);
  assert.deepEqual(applied.at(-1), { enabled: false, maxTokens: 8 }, 'what it does not say stays as given');
  assert.equal(followed.unsettled, null);
  await clock.advance(SETTINGS_MS_MAX);
  assert.deepEqual([warnings, clock.pending], [[], 0]);
});

test('an editor that never answers is waited for so long, and an answer behind that counts all the same', async () => {
  const { clock, asked, applied, warnings, followed } = follow();
  followed.start({}, true);
  void followed.ready();
  await clock.advance(SETTINGS_MS_MAX - 1);
  assert(followed.unsettled);
  const waiting = followed.unsettled;
  await clock.advance(1);
  await waiting;
  assert.equal(followed.unsettled, null);
  assert.match(warnings.join(), /asked for its settings and did not answer within 3 s; the last ones hold/);
  asked[0]?.resolve({ enabled: false });
  await clock.advance(0);
  assert.deepEqual(applied.at(-1), { enabled: false });
});

test('an editor that does not even say that it is ready is not waited for for ever', async () => {
  const { clock, followed } = follow();
  followed.start({}, true);
  await clock.advance(SETTINGS_MS_MAX);
  assert.equal(followed.unsettled, null);
});

test('of two questions the answer to the later one counts, whichever comes first', async () => {
  const { clock, asked, applied, followed } = follow();
  followed.start({}, true);
  void followed.ready();
  void followed.changed(null);
  asked[0]?.resolve({ model: 'old' });
  await clock.advance(0);
  assert(followed.unsettled, 'the later answer is still to come');
  assert.equal(applied.length, 1);
  asked[1]?.resolve({ model: 'new' });
  await clock.advance(0);
  assert.deepEqual([applied.at(-1), followed.unsettled], [{ model: 'new' }, null]);
});

test('what is not settled when the server ends never is', async () => {
  const { clock, asked, applied, followed } = follow();
  followed.start({}, true);
  void followed.ready();
  followed.close();
  asked[0]?.resolve({ enabled: false });
  await clock.advance(SETTINGS_MS_MAX);
  assert.equal(applied.length, 1);
  assert(followed.unsettled);
});

test('an editor that refuses to answer is told of; what holds stays', async () => {
  const { clock, asked, applied, warnings, followed } = follow();
  followed.start({ enabled: false }, true);
  void followed.ready();
  asked[0]?.reject(new Error('no such method'));
  await clock.advance(0);
  assert.deepEqual([applied.length, followed.unsettled], [1, null]);
  assert.match(warnings.join(), /did not tell its settings \(no such method\); they stay as they were/);
});

test('an editor that cannot be asked pushes: the section alone, among others, or none of ours', async () => {
  const { applied, asked, followed } = follow();
  followed.start({ quern: { enabled: false } }, false);
  assert.deepEqual([applied.at(-1), followed.unsettled], [{ enabled: false }, null]);
  await followed.changed({ quern: { maxTokens: 8 }, python: {} });
  assert.deepEqual(applied.at(-1), { enabled: false, maxTokens: 8 });
  await followed.changed({ enabled: true });
  assert.deepEqual(applied.at(-1), { enabled: true });
  await followed.changed({ python: { a: 1 }, rust: {} });
  assert.deepEqual(applied.at(-1), { enabled: false });
  assert.equal(asked.length, 0);
});

test('null in place of a value, or of all, says nothing: what turned suggestions off at the start still does', async () => {
  const { applied, warnings, followed } = follow();
  followed.start({ enabled: false }, false);
  for (const nothing of [{ quern: { enabled: null } }, { quern: null }, null, undefined, { quern: [] }]) {
    await followed.changed(nothing);
    assert.deepEqual(applied.at(-1), { enabled: false }, JSON.stringify(nothing));
  }
  const before = applied.length;
  for (const odd of ['off', 5, ['enabled']]) await followed.changed({ quern: odd });
  assert.equal(applied.length, before);
  assert.deepEqual(warnings, [
    'settings: expected an object, got "off"; all stay as they were',
    'settings: expected an object, got 5; all stay as they were',
    'settings: expected an object, got ["enabled"]; all stay as they were',
  ]);
});
