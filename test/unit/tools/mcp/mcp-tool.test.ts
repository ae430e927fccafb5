/** A server's tool as the registry has it: what of the server's own words counts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { foreignSha256, parseForeignTool } from '../../../../services/tools/mcp/foreign-tool.ts';
import { mcpTool } from '../../../../services/tools/mcp/mcp-tool.ts';
import { parseMcpServers } from '../../../../services/tools/mcp/server-spec.ts';
import { DEFAULT_POLICY, effectivePolicy } from '../../../../services/tools/policy.ts';

const PLAIN = { type: 'object' };

function madeTool(said: object, written: object = {}) {
  const [spec] = parseMcpServers({ fake: { command: '/bin/true', ...written } }, (_, run) => run());
  const tool = parseForeignTool({ name: 'go', inputSchema: PLAIN, ...said });
  assert.ok(spec);
  const pin = { tool, sha256: foreignSha256(tool), seenUnixMs: 0 };
  return mcpTool(spec, pin, { unavailable: () => null, run: () => Promise.reject(new Error('not run here')) })
    .definition;
}

test('hints of a server may make the rules stricter, never looser; the operator may do both', () => {
  const harmless = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false };
  const dangerous = { readOnly: false, destructive: true, idempotent: false, openWorld: true };
  assert.deepEqual(madeTool({}).annotations, dangerous);
  assert.deepEqual(madeTool({ annotations: harmless }).annotations, dangerous);
  const annotations = { read_only: true, destructive: false, idempotent: true, open_world: false };
  const own = { readOnly: true, destructive: false, idempotent: true, openWorld: false };
  assert.deepEqual(madeTool({ annotations: { destructiveHint: true } }, { annotations }).annotations, own);
});

test('a server that calls its tool harmless does not change the decision of the policy', () => {
  const said = { annotations: { readOnlyHint: true, destructiveHint: false, openWorldHint: false } };
  for (const definition of [madeTool({}), madeTool(said)]) {
    assert.equal(effectivePolicy(definition, 'acme', DEFAULT_POLICY).decision, 'ask');
  }
});

test('words of a schema are without hidden characters; names and values with them leave the tool out', () => {
  const description = 'a\u200bb\u{e0041}c\u202e\u001b[31md';
  const inputSchema = {
    ...PLAIN,
    description,
    properties: { description: { type: 'string', title: description }, a: { anyOf: [{ description }] } },
  };
  assert.deepEqual(madeTool({ inputSchema, outputSchema: { ...PLAIN, description } }).inputSchema, {
    ...PLAIN,
    description: 'abcd',
    properties: { description: { type: 'string', title: 'abcd' }, a: { anyOf: [{ description: 'abcd' }] } },
  });
  for (const properties of [{ 'pa\u200bth': {} }, { a: { enum: ['x', 'y\u{e0041}'] } }, { a: { default: '\u202e' } }]) {
    assert.throws(() => madeTool({ inputSchema: { ...PLAIN, properties } }), {
      message: /hidden or control characters/,
    });
  }
});
