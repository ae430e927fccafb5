/** What quern-lsp says in its requests, and what it makes of how a real gateway ends them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { extract } from '#kit/trace.ts';
import { eventually, startMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf } from '../gateway/fakes/mock-tokenizer.ts';
import { startEditor } from './support/editor.ts';

const uri = 'file:///project/answer.py';

type Outcome = { reason: string | null; traceId: string };

test('the trace that an outcome names is the one that the engine got, and is known without an answer', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 50, script: () => bytesOf('answer()') } });
  const outcomes: Outcome[] = [];
  for (const gateway of [mesh.gateway.grpcAddress, '127.0.0.1:1']) {
    const editor = await startEditor(t, { gateway, settings: { outcomes: true } });
    editor.connection.onNotification('quern/outcome', (outcome: Outcome) => {
      outcomes.push(outcome);
    });
    await editor.open(uri, 'value = \n');
    await editor.complete(uri, { line: 0, character: 8 });
  }
  await eventually(() => outcomes.length === 2, 'two outcomes');
  const [shown, offline] = outcomes;
  assert.equal(extract(mesh.engine.requests[0]?.traceparent)?.traceId, shown?.traceId);
  assert.equal(offline?.reason, 'OFFLINE');
  assert.match(offline?.traceId ?? '', /^[0-9a-f]{32}$/);
});
