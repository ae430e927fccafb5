import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { localPrincipal, type Principal } from '#kit/principal.ts';
import { ExplainRing } from '../../../services/gateway/explain-ring.ts';

const user: Principal = { ...localPrincipal, tenant: 'acme', user: 'ann', role: 'user', keyId: 'k1' };
const facts = (requestId: string, principal = user) => ({
  requestId,
  principal,
  method: 'complete' as const,
  traceId: '',
});
const END = {
  outcome: 'stop',
  error: null,
  usage: { promptTokens: 1, cachedTokens: 0, completionTokens: 1 },
  timings: undefined,
};

test('the newest are kept, the oldest go', () => {
  const ring = new ExplainRing({ max: 3 });
  for (const id of ['a', 'b', 'c', 'd']) ring.begin(facts(id), 0).finish(END);
  assert.equal(ring.size, 3);
  assert.equal(ring.find(user, 'a'), null);
  assert.equal(ring.find(user, 'd')?.facts.requestId, 'd');
});

test('an id used again is the newer request; while the first runs it stays the first', () => {
  const ring = new ExplainRing({ max: 2 });
  const first = ring.begin(facts('a'), 0);
  ring.begin(facts('a'), 0).model = 'refused';
  assert.equal(ring.find(user, 'a'), first);
  first.finish(END);
  const second = ring.begin(facts('a'), 0);
  assert.equal(ring.find(user, 'a'), second);
  ring.begin(facts('b'), 0);
  ring.begin(facts('a2'), 0);
  assert.equal(ring.find(user, 'a'), null, 'it was the oldest again');
});

test('a caller sees their own; an admin their tenant, and no other', () => {
  const ring = new ExplainRing();
  const own = ring.begin(facts('a'), 0);
  const seenBy = (changes: Partial<Principal>) => ring.find({ ...user, ...changes }, 'a');
  assert.equal(seenBy({}), own);
  assert.equal(seenBy({ user: 'bob', keyId: 'k2' }), null);
  assert.equal(seenBy({ user: 'bob', keyId: 'k2', role: 'service' }), null);
  assert.equal(seenBy({ user: 'bob', keyId: 'k2', role: 'admin' }), own);
  assert.equal(seenBy({ tenant: 'other', role: 'admin' }), null);
});

test('what a caller sends is not kept beyond its bounds', () => {
  const ring = new ExplainRing();
  ring.begin(facts('x'.repeat(1_000_000)), 0);
  ring.begin(facts('with blanks'), 0);
  ring.begin(facts(''), 0);
  assert.equal(ring.size, 0);
  const timeline = ring.begin(facts('a'), 0);
  timeline.finish({ ...END, error: new QuernError('NOT_FOUND', 'y'.repeat(1_000_000)) });
  assert.equal(timeline.end?.error?.message.length, 500);
});
