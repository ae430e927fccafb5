/** Built-in tools, packs and workspaces through the service as a process, in its real sandbox. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ToolServiceClient } from '#gen/quern/tools/v1/tools.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import type { JsonObject } from '../../../services/tools/tool.ts';
import { openFolder, startProcess, writePacks } from './support/process.ts';
import { caller, outcomeOf, resultOf, run } from './support/service.ts';

const PACK = `
tools:
  - name: fetch_out
    description: Asks for pages through the egress proxy
    annotations: { read_only: true, destructive: false, open_world: true }
    input_schema: { type: object, properties: { urls: { type: array, items: { type: string } } }, required: [urls] }
    command:
      argv:
        - /usr/bin/python3
        - -c
        - |
          import sys, urllib.request
          for url in sys.argv[2:]:
              try:
                  print(urllib.request.urlopen(url, timeout=5).status)
              except Exception as error:
                  print(getattr(error, 'code', type(error).__name__))
        - "--"
        - "{urls}"
      network: proxy
      workspace: none # with private data in reach it would ask first
`;

const POLICY = 'tenants: { acme: { tools: { list_dir: { decision: deny } } } }\n';

test('what ships with Quern works through the service; so do packs, the way out, policy and copies', async (t) => {
  const dir = openFolder(t);
  const policyFile = join(dir, 'policy.yaml');
  writeFileSync(policyFile, POLICY, { mode: 0o644 });
  const service = await startProcess(t, {
    dir,
    env: {
      QUERN_TOOLS_PACK_DIR: writePacks(dir, { 'out.yaml': PACK }),
      QUERN_TOOLS_POLICY_FILE: policyFile,
      QUERN_TOOLS_HTTP_ALLOW: 'localhost,127.0.0.1',
      QUERN_TOOLS_TEST_COMMAND: '["/usr/bin/bash","-c","cat notes.txt","tests"]',
    },
  });
  const client = openChannel(ToolServiceClient, { address: service.address });
  t.after(() => client.close());
  const call = async (tool: string, args: JsonObject) => {
    const events = await run(client, { tool, argumentsJson: JSON.stringify(args) }, { timeoutMs: 60_000 });
    const artifacts = events.flatMap(({ event }) => (event?.$case === 'artifact' ? [event.value] : []));
    return {
      outcome: outcomeOf(events),
      artifacts,
      ...{ content: resultOf(events).content, message: resultOf(events).message },
    };
  };

  assert.equal((await call('write_file', { path: 'notes.txt', content: 'one\ntwo\n' })).outcome, 'ok');
  const { snapshotId, files } = await unary(client, 'snapshot', { caller });
  assert.equal(files, 1);
  const patch = '--- a/notes.txt\n+++ b/notes.txt\n@@ -2 +2 @@\n-two\n+2\n';
  assert.equal((await call('apply_patch', { patch })).content, 'changed notes.txt\n');
  assert.equal((await call('search', { pattern: '2' })).content, 'notes.txt:2:2\n');
  assert.equal((await call('run_tests', {})).content, 'one\n2\n');
  await unary(client, 'rollback', { caller, snapshotId });
  assert.equal((await call('read_file', { path: 'notes.txt' })).content, 'one\ntwo\n');

  const plot = await call('run_code', {
    language: 'bash',
    code: 'echo PNG > plot.png',
    artifacts: ['plot.png', 'none'],
  });
  assert.deepEqual(
    plot.artifacts.map(({ path, mediaType, data }) => [path, mediaType, data.toString()]),
    [['plot.png', 'image/png', 'PNG\n']],
  );
  assert.equal((await call('eval_js_pure', { code: 'input.a * 2', input: { a: 21 } })).content, '42');
  assert.match((await call('git', { command: 'status' })).content, /no git repository/);

  assert.equal((await call('read_file', { path: '../x' })).outcome, 'invalid_args');
  assert.equal((await call('read_file', { path: 'a', lines: 1 })).outcome, 'invalid_args');
  assert.equal((await call('list_dir', {})).outcome, 'denied_policy');
  assert.notEqual((await call('read_file', { path: 'missing' })).outcome, 'ok');

  // Allowed by name, and still not dialled: neither here nor through the proxy is the loopback address public.
  const fetched = await call('http_fetch', { url: 'http://localhost/' });
  assert.match(fetched.message + fetched.content, /not a public address/);
  const urls = ['http://localhost/', 'http://169.254.169.254/', 'http://example.com/'];
  const out = await call('fetch_out', { urls });
  assert.equal(out.content, '403\n403\n403\n', out.message);
});
