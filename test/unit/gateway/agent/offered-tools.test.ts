// Which tools a run shows the model when nobody chose, and its context has no room for all.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AGENT_TOOL, fittingTools, offeredTools } from '../../../../services/gateway/agent/offered-tools.ts';
import { fakeTool } from '../../../contract/gateway/fakes/fake-tools.ts';

const all = offeredTools(
  ['a', 'b', 'c'].map((name) => fakeTool(name)),
  [],
  { nesting: true },
);

test('the shortest definitions first, nested runs last, in the order they had', () => {
  assert.deepEqual(all.names, ['a', 'b', 'c', AGENT_TOOL]);
  const chosen = (tokensMax: number): string[] => fittingTools(all, [30, 10, 20, 5], tokensMax).names;
  assert.deepEqual(chosen(65), ['a', 'b', 'c', AGENT_TOOL]);
  assert.deepEqual(chosen(64), ['a', 'b', 'c']);
  assert.deepEqual(chosen(59), ['b', 'c']);
  assert.deepEqual(chosen(10), ['b']);
  assert.deepEqual(chosen(9), []);
});
