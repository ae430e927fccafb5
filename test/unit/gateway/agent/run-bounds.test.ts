// What a run may use, who may start one, and how it goes on after a broken stream to the tool service.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { localPrincipal } from '#kit/principal.ts';
import { AgentRuns } from '../../../../services/gateway/agent/agent-runs.ts';
import { RUN_LIMITS } from '../../../../services/gateway/agent/limits.ts';
import { cutText, modelText } from '../../../../services/gateway/agent/result-text.ts';
import { RunAccount, RunBudget, resolveLimits } from '../../../../services/gateway/agent/run-budget.ts';
import { nextAttempt } from '../../../../services/gateway/tool-client.ts';
import { makeRun, play, result, scriptedTools, scriptedTurn } from './scripted.ts';

const { limits } = resolveLimits(undefined);

test('limits: absent is usual, zero and more than the maximum are refused by name', () => {
  assert.deepEqual(limits, Object.fromEntries(Object.entries(RUN_LIMITS).map(([name, { usual }]) => [name, usual])));
  const { fields } = resolveLimits({ turns: 0, calls: 513, depth: 0, resultBytes: 1 });
  assert.deepEqual(
    fields.map(({ field }) => field),
    ['limits.turns', 'limits.calls'],
  );
});

test('a budget below another one is what both have left, and uses up both', () => {
  const above = new RunBudget({ ...limits, turns: 3, calls: 2, tokens: 100, result_bytes: 10 });
  const below = new RunBudget({ ...limits, turns: 5 }, above);
  assert.deepEqual([below.turnsLeft, below.callsLeft, below.tokensLeft, below.resultBytesLeft], [3, 2, 100, 10]);
  assert.equal(below.takeTurn(), null);
  assert.equal(below.takeCall() && above.takeCall(), true);
  assert.equal(below.takeCall(), false);
  assert.equal(below.takeResultBytes(25), 10);
  below.spendTokens({ promptTokens: 90, cachedTokens: 0, completionTokens: 20 });
  assert.deepEqual([above.turnsLeft, above.callsLeft, above.tokensLeft, above.resultBytesLeft], [2, 0, 0, 0]);
  assert.equal(below.takeTurn(), 'tokens');
  assert.equal(above.turnsLeft, 2);
});

test('turns side by side hold shares of the tokens; one that finds none waits for the first that ends', async () => {
  const { signal } = new AbortController();
  const above = new RunBudget({ ...limits, tokens: 100 });
  const budgets = [above, new RunBudget(limits, above), above, new RunBudget({ ...limits, tokens: 10 }, above)];
  const shares = await Promise.all(budgets.map((budget) => budget.reserveTokens({ signal })));
  assert.deepEqual(
    shares.map(({ tokens }) => tokens),
    [25, 25, 25, 10],
  );
  const rest = await above.reserveTokens({ signal });
  assert.equal(rest.tokens, 15);
  const next = above.reserveTokens({ signal });
  const leaver = new AbortController();
  const left = above.reserveTokens({ signal: leaver.signal });
  leaver.abort(new QuernError('CANCELLED', 'by the test'));
  await assert.rejects(left, { code: 'CANCELLED' });
  above.spendTokens({ promptTokens: 5, cachedTokens: 0, completionTokens: 15 });
  shares[0]?.giveBack();
  shares[0]?.giveBack();
  const waited = await next;
  assert.equal(waited.tokens, 5);
  for (const { giveBack } of [...shares, rest, waited]) giveBack();
  assert.equal((await above.reserveTokens({ signal })).tokens, 80);
  above.spendTokens({ promptTokens: 80, cachedTokens: 0, completionTokens: 0 });
  assert.equal((await above.reserveTokens({ signal })).tokens, 0);
});

test('an account counts for all above it', () => {
  const outer = new RunAccount(null);
  const inner = new RunAccount(outer);
  inner.countTurn();
  inner.countCall();
  inner.countTokens({ promptTokens: 3, cachedTokens: 2, completionTokens: 1 });
  outer.countTurn();
  assert.deepEqual([inner.turns, outer.turns, outer.calls, outer.usage.promptTokens], [1, 2, 1, 3]);
});

test('places for runs are bounded, in all and of one caller, and are given back once', () => {
  const runs = new AgentRuns({ max: 3, perPrincipal: 2 });
  const [ann, bob] = ['ann', 'bob'].map((user) => ({ ...localPrincipal, user })) as [
    typeof localPrincipal,
    typeof localPrincipal,
  ];
  const first = runs.reserve(ann);
  runs.reserve(ann);
  assert.throws(
    () => runs.reserve(ann),
    (error: QuernError) => error.details.reason === 'TOO_MANY_RUNS',
  );
  runs.reserve(bob);
  assert.throws(() => runs.reserve(bob));
  first();
  first();
  runs.reserve(bob);
  assert.throws(() => runs.reserve(ann));
});

test('a run without a reader goes on for its linger time, and can be read after its end', async () => {
  const turn = scriptedTurn(() => ({ hang: true }));
  const run = await makeRun({ turn, tools: scriptedTools([], () => result()), over: { lingerMs: 40 } });
  let gone = 0;
  const reader = run.read(0);
  run.start(() => {
    gone += 1;
  });
  reader.close();
  const again = run.read(1);
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(run.log.closed, false);
  again.close();
  await run.done;
  assert.equal(gone, 0);
  run.read(0).close();
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(gone, 1);
});

test('closing ends a run and forgets it', async () => {
  const run = await makeRun({
    turn: scriptedTurn(() => ({ hang: true })),
    tools: scriptedTools([], () => result()),
    over: { lingerMs: 60_000 },
  });
  const events = play(run, ({ event }) => {
    if (event?.$case === 'turn') run.close();
  });
  assert.equal((await events).at(-1)?.event?.$case, 'ended');
});

test('after a broken stream: attach while the call is known, execute again with its key when it is not', () => {
  const unavailable = new QuernError('UNAVAILABLE', 'x');
  assert.equal(nextAttempt('execute', unavailable), 'attach');
  assert.equal(nextAttempt('attach', unavailable), 'attach');
  assert.equal(nextAttempt('attach', new QuernError('NOT_FOUND', 'x')), 'execute');
  assert.equal(nextAttempt('execute', new QuernError('NOT_FOUND', 'x')), null);
  assert.equal(nextAttempt('execute', new QuernError('ALREADY_EXISTS', 'x', { reason: 'TOOL_CALL_EXISTS' })), 'attach');
  assert.equal(
    nextAttempt('execute', new QuernError('ALREADY_EXISTS', 'x', { reason: 'IDEMPOTENCY_KEY_REUSED' })),
    null,
  );
  for (const code of ['INTERNAL', 'CANCELLED', 'DEADLINE_EXCEEDED'] as const)
    assert.equal(nextAttempt('execute', new QuernError(code, 'x')), null);
});

test('a result is cut at whole characters to every size', () => {
  const text = `${'aä€😀'.repeat(20)}end`;
  for (let size = 0; size <= Buffer.byteLength(text); size += 1) {
    const cut = cutText(text, size);
    assert.ok(
      Buffer.byteLength(cut.text) <= size && cut.text.isWellFormed() && !cut.text.includes('\ufffd'),
      String(size),
    );
    assert.equal(cut.cut, size < Buffer.byteLength(text));
  }
  assert.deepEqual(
    [modelText('OK', 'x', ''), modelText('OOM', '', ''), modelText('OOM', 'x', 'y')],
    ['x', '[OOM]', 'x\n[OOM: y]'],
  );
});
