/** What quern-lsp says in its requests, and what it makes of how a real gateway ends them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { QuernError } from '#kit/errors.ts';
import { extract } from '#kit/trace.ts';
import { InfillFailure, type InfillQuery } from '../../../clients/lsp/core/infill-source.ts';
import { newTraceId } from '../../../clients/lsp/core/trace-id.ts';
import { openGatewaySource } from '../../../clients/lsp/rpc/gateway-source.ts';
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

test('a mesh that is full says after how long it may be asked again', async (t) => {
  const mesh = await startMesh(t);
  const source = openGatewaySource({ address: mesh.gateway.grpcAddress, apiKey: null, ca: null });
  t.after(() => source.close());
  const settings = { reason: 'QUEUE_FULL', retryAfterMs: 2_500 };
  mesh.engine.settings.refuse = new QuernError('RESOURCE_EXHAUSTED', 'the queue is full', settings);
  const query: InfillQuery = {
    ...{ requestId: crypto.randomUUID(), traceId: newTraceId(), model: '', prefix: 'a = ', suffix: '\n', path: 'a.py' },
    ...{ languageId: 'python', repository: '', chunks: [], singleLine: true, ending: 'single_line', candidates: 1 },
    ...{ maxTokens: 8, temperature: 0, priority: 'automatic', supersedeKey: 'one', softDeadlineMs: 60_000 },
  };
  const failure = await (async () => {
    for await (const _ of source.infill(query, { signal: new AbortController().signal }));
  })().catch((thrown: unknown) => thrown);
  assert(failure instanceof InfillFailure);
  assert.deepEqual([failure.kind, failure.retryAfterMs], ['overloaded', 2_500]);
});

/** File and what stands in it, what the model says, and what of that belongs there. */
const SCOPES: [name: string, before: string, after: string, model: string, shown: string][] = [
  [
    'a.py',
    'def add(xs):\n    ',
    '\n\n\nadd([])\n',
    'return sum(xs)\n\n\ndef other():\n    pass\n',
    '    return sum(xs)',
  ],
  ['a.py', 'def usage():\n    text = ', '\n', '"""\nusage: quern\n"""\n\nother()\n', '"""\nusage: quern\n"""'],
  ['usage', 'def usage():\n    text = ', '\n', '"""\nusage: quern\n"""\n\nother()\n', '"""\nusage: quern\n"""'],
  [
    'a.ts',
    'function f(xs: number[]) {\n  for (const x of xs) {',
    '\n}\n',
    '\n    show(x);\n  }\n  done();\n}\n\nf([]);\n',
    '\n    show(x);\n  }',
  ],
  ['a.ts', 'const help = ', '\n', '`one\n\ntwo\n`;\nconst next = 1;\n', '`one\n\ntwo\n`;'],
];

test('what the mesh ended with its scope is shown as it came', async (t) => {
  const mesh = await startMesh(t);
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings: { maxTokens: 200 } });
  for (const [i, [name, before, after, model, shown]] of SCOPES.entries()) {
    mesh.engine.settings.script = () => bytesOf(model);
    const at = `file:///project/${i}/${name}`;
    await editor.open(at, before + after, name.endsWith('.ts') ? 'typescript' : 'python');
    const lines = before.split('\n');
    const position = { line: lines.length - 1, character: (lines.at(-1) ?? '').length };
    // A gateway that is slow to say what it can do leaves the first texts to the client's own, coarser reading.
    await eventually(
      async () => (await editor.complete(at, position))[0]?.insertText === shown,
      `${JSON.stringify(shown)} is shown`,
    );
  }
});

test('a file that was opened is read ahead by the mesh, which generates nothing for it', async (t) => {
  const mesh = await startMesh(t);
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings: { warm: true } });
  await editor.open(uri, 'value = \n');
  await eventually(() => mesh.engine.requests.length === 1, 'the engine has read the prompt', 60_000);
  const [request] = mesh.engine.requests;
  assert.deepEqual([request?.sampling?.maxTokens, request?.priorityClass], [0, PriorityClass.PRIORITY_CLASS_WARM]);
});
