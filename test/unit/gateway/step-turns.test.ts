import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { STEP_TURN_HANDLES } from '../../../services/gateway/limits.ts';
import { StepTurns } from '../../../services/gateway/step-turns.ts';

type Named = { name: string; hasBegun: boolean };

/** Capitals have not begun. */
function told() {
  const heard: string[] = [];
  const turns = new StepTurns<Named>(({ name }) => heard.push(name));
  const add = (names: string): void =>
    turns.add([...names].map((name) => ({ name, hasBegun: name === name.toLowerCase() })));
  return { heard: () => heard.join(''), turns, add };
}

test('first steps are told at once and before further ones, each kind in its order', async () => {
  const { heard, add } = told();
  add('aBcDe');
  assert.equal(heard(), 'BD');
  await turn();
  assert.equal(heard(), 'BDace');
});

test('many are told some at a time, with a turn of the event loop in between', async () => {
  const { heard, add } = told();
  add('x'.repeat(2 * STEP_TURN_HANDLES + 1));
  const lengths: number[] = [];
  for (let i = 0; i < 4; i += 1) {
    lengths.push(heard().length);
    await turn();
  }
  assert.deepEqual(lengths, [0, STEP_TURN_HANDLES, 2 * STEP_TURN_HANDLES, 2 * STEP_TURN_HANDLES + 1]);
});

test('what one step left is told before the next one, and once', async () => {
  const { heard, add, turns } = told();
  add('abc');
  add('Da');
  assert.equal(heard(), 'abcD');
  turns.finish();
  assert.equal(heard(), 'abcDa');
  turns.finish();
  await turn();
  assert.equal(heard(), 'abcDa');
});
