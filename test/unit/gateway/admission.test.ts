import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { localPrincipal, type Principal } from '#kit/principal.ts';
import { Admission, type ShedReason, type Ticket } from '../../../services/gateway/admission.ts';

const CHAT = PriorityClass.PRIORITY_CLASS_CHAT;
const bounds = { requestsMax: 8, tokensMax: 1000, principalRequestsMax: 4, principalTokensMax: 600 };
const principal = (user: string): Principal => ({ ...localPrincipal, user });

function refusal(run: () => unknown): { code: string; shed: string | undefined; retryAfterMs: number | undefined } {
  try {
    run();
  } catch (error) {
    const { code, details } = error as {
      code: string;
      details: { metadata?: Record<string, string>; retryAfterMs?: number };
    };
    return { code, shed: details.metadata?.shed_reason, retryAfterMs: details.retryAfterMs };
  }
  throw new assert.AssertionError({ message: 'expected a refusal' });
}

test('bounds hold per principal and in sum, with a retry time', () => {
  const shed: ShedReason[] = [];
  const admission = new Admission(bounds, (reason) => shed.push(reason));
  const tickets = Array.from({ length: 4 }, () => admission.admit(principal('a'), CHAT));
  const first = refusal(() => admission.admit(principal('a'), CHAT));
  assert.deepEqual(first, { code: 'RESOURCE_EXHAUSTED', shed: 'principal_requests', retryAfterMs: 1000 });
  for (let i = 0; i < 4; i += 1) tickets.push(admission.admit(principal('b'), CHAT));
  assert.equal(refusal(() => admission.admit(principal('c'), CHAT)).shed, 'requests');
  tickets[0]?.charge(500);
  assert.equal(refusal(() => tickets[1]?.charge(200)).shed, 'principal_tokens');
  tickets[4]?.charge(400);
  assert.equal(refusal(() => tickets[5]?.charge(200)).shed, 'tokens');
  assert.deepEqual(shed, ['principal_requests', 'requests', 'principal_tokens', 'tokens']);
  for (const ticket of tickets) ticket.release();
  assert.deepEqual([admission.requests, admission.tokens, admission.principals], [0, 0, 0]);
});

test('the weakest classes are shed first', () => {
  const admission = new Admission({ ...bounds, principalRequestsMax: 8 });
  const admit = (priorityClass: PriorityClass): Ticket => admission.admit(principal('a'), priorityClass);
  for (let i = 0; i < 4; i += 1) admit(CHAT);
  assert.equal(refusal(() => admit(PriorityClass.PRIORITY_CLASS_WARM)).shed, 'requests');
  for (let i = 0; i < 2; i += 1) admit(PriorityClass.PRIORITY_CLASS_SPECULATIVE);
  assert.equal(refusal(() => admit(PriorityClass.PRIORITY_CLASS_SPECULATIVE)).shed, 'requests');
  admit(PriorityClass.PRIORITY_CLASS_BATCH);
  admit(PriorityClass.PRIORITY_CLASS_INVOKED);
  assert.equal(refusal(() => admit(PriorityClass.PRIORITY_CLASS_INVOKED)).shed, 'requests');
});

test('a draining gateway takes nothing', () => {
  const admission = new Admission(bounds);
  admission.close();
  assert.equal(refusal(() => admission.admit(localPrincipal, CHAT)).code, 'UNAVAILABLE');
});

test('totals equal the sum over live tickets, whatever the order', () => {
  const step = fc.record({
    user: fc.constantFrom('a', 'b', 'c'),
    tokens: fc.nat(400),
    release: fc.nat(20),
    twice: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const admission = new Admission(bounds);
      const live: { ticket: Ticket; tokens: number }[] = [];
      for (const { user, tokens, release, twice } of steps) {
        try {
          const ticket = admission.admit(principal(user), CHAT);
          const entry = { ticket, tokens: 0 };
          live.push(entry);
          ticket.charge(tokens);
          entry.tokens = tokens;
        } catch {
          // refused: nothing may have been counted
        }
        const gone = live.splice(release, 1)[0];
        gone?.ticket.release();
        if (twice) gone?.ticket.release();
        assert.equal(admission.requests, live.length);
        assert.equal(
          admission.tokens,
          live.reduce((sum, entry) => sum + entry.tokens, 0),
        );
      }
    }),
  );
});
