// Runs below a run: their paths, tools, budget and depth.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunOutcome } from '#gen/quern/gateway/v1/agent.ts';
import {
  checkStory,
  done,
  inTurns,
  makeRun,
  ok,
  play,
  scriptedTools,
  scriptedTurn,
  story,
  tool,
  valuesOf,
} from './scripted.ts';

test('a nested run has its own path, fewer tools, the same budget; its answer is the result', async () => {
  const turn = scriptedTurn(({ name, messages }) => {
    if (name === '0') return { calls: [{ name: 'agent', args: { task: 'count', tools: ['f'] } }] };
    if (name === '0.0.0') return { calls: [{ name: 'f', args: {} }] };
    if (name === '0.0.1') return `counted: ${messages.at(-1)?.content}`;
    return `it says ${messages.at(-1)?.content}`;
  });
  const tools = scriptedTools([tool('f'), tool('g')], () => ok('42'));
  const events = await play(await makeRun({ turn, tools }));
  checkStory(events);
  assert.deepEqual(story(events), [
    'started',
    'turn 0',
    'call 0.0 agent',
    '[0.0] started',
    '[0.0] turn 0',
    '[0.0] call 0.0.0.0 f',
    '[0.0] ended 0.0.0.0 OK',
    '[0.0] turn 1',
    '[0.0] says counted: 42',
    '[0.0] ended',
    'ended 0.0 OK',
    'turn 1',
    'says it says counted: 42',
    'ended',
  ]);
  const [outer, nested] = valuesOf(events, 'started');
  assert.deepEqual([outer?.tools, nested?.tools], [['f', 'g', 'agent'], ['f']]);
  const [below, above] = valuesOf(events, 'ended');
  assert.deepEqual([below?.turns, below?.calls, above?.turns, above?.calls], [2, 1, 4, 2]);
  assert.equal(tools.requests[0]?.depth, 1);
  assert.deepEqual(
    turn.requests[1]?.messages.map(({ content }) => content),
    ['count'],
  );
});

test('nested runs side by side are never given more tokens than the run has left', async () => {
  let held = 0;
  let most = 0;
  const calls = Array.from({ length: 8 }, (_, n) => ({ name: 'agent', args: { task: `part ${n}` } }));
  const turn = scriptedTurn(({ name }) => (name === '0' ? { calls } : 'done'));
  const tools = scriptedTools([], () => ok(''));
  const watched: typeof turn.turn = async function* (request, options) {
    held += request.tokensMax;
    most = Math.max(most, held);
    try {
      await new Promise((resolve) => setTimeout(resolve, 5));
      yield* turn.turn(request, options);
    } finally {
      held -= request.tokensMax;
    }
  };
  const events = await play(await makeRun({ turn, tools, limits: { tokens: 1_000 }, over: { turn: watched } }));
  checkStory(events);
  assert.deepEqual([most, held, turn.requests.length], [1_000, 0, 10]);
  const shares = turn.requests.slice(1, 9).map(({ tokensMax }) => tokensMax);
  assert.deepEqual(shares.toSorted(), [...Array(7).fill(123), 124]); // 985 are left after the first turn
  assert.equal(done(events).outcome, RunOutcome.RUN_OUTCOME_ANSWERED);
});

test('nested runs end at the depth, and share turns and tokens', async () => {
  const turn = scriptedTurn(() => ({ text: 'deeper', calls: [{ name: 'agent', args: { task: 'go on' } }] }));
  const tools = scriptedTools([], () => ok(''));
  const events = await play(await makeRun({ turn, tools, limits: { depth: 2, turns: 9 } }));
  checkStory(events);
  const deepest = Math.max(...events.map(({ path }) => path.split('.').length));
  assert.equal(deepest, 4); // "0.0.0.0": two levels
  const refused = valuesOf(events, 'callEnded').find(({ callId }) => callId === '0.0.0.0.0.0');
  assert.equal(refused?.outcome, 'INVALID_ARGS'); // it is not even offered there
  assert.deepEqual(
    [done(events).outcome, done(events).limit, done(events).turns],
    [RunOutcome.RUN_OUTCOME_LIMIT, 'turns', 9],
  );

  const none = await play(
    await makeRun({
      turn: inTurns({ calls: [{ name: 'agent', args: { task: 'x' } }] }, 'ok'),
      tools,
      limits: { depth: 0 },
    }),
  );
  checkStory(none);
  assert.equal(valuesOf(none, 'callEnded')[0]?.outcome, 'INVALID_ARGS');
});

test('a nested run is refused what its caller does not have', async () => {
  for (const args of [
    { task: 'x', tools: ['rm'] },
    { task: '' },
    { tools: ['f'] },
    { task: 'x', more: 1 },
    { task: 'x', tools: 'f' },
  ]) {
    const turn = inTurns({ calls: [{ name: 'agent', args }] }, 'ok');
    const events = await play(await makeRun({ turn, tools: scriptedTools([tool('f')], () => ok('')) }));
    checkStory(events);
    assert.equal(valuesOf(events, 'callEnded')[0]?.outcome, 'INVALID_ARGS', JSON.stringify(args));
    assert.equal(valuesOf(events, 'started').length, 1);
  }
});
