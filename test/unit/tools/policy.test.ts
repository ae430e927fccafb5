import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NO_TAINT, type Taint } from '#kit/taint.ts';
import { defineTool } from '../../../services/tools/definition.ts';
import {
  DEFAULT_POLICY,
  effectivePolicy,
  parsePolicy,
  policySha256,
  taintNeedsApproval,
} from '../../../services/tools/policy.ts';
import type { Annotations, ToolDefinition } from '../../../services/tools/tool.ts';

const GENTLE: Annotations = { readOnly: true, destructive: false, idempotent: true, openWorld: false };

function tool(name: string, rest: Partial<Parameters<typeof defineTool>[0]> = {}): ToolDefinition {
  return defineTool({
    name,
    version: '1',
    kind: 'command',
    description: '',
    inputSchema: { type: 'object' },
    annotations: GENTLE,
    taint: NO_TAINT,
    runs: {},
    ...rest,
  }).definition;
}

const written = `
wall_ms: 20000
ask_when: [destructive]
tools:
  run_code: { decision: ask, memory_mib: 256 }
  "git*": { decision: deny }
tenants:
  acme:
    pids: 16
    tools:
      read_file: { decision: deny }
      run_code: { decision: allow, memory_mib: 1024, model_output_kib: 8 }
`;

test('the strictest decision and the lowest limit of tool, tenant and host hold', () => {
  const policy = parsePolicy(written);
  const run = effectivePolicy(tool('run_code', { limits: { wallMs: 60_000, memoryBytes: 2 ** 30 } }), 'acme', policy);
  assert.equal(run.decision, 'ask'); // the tenant's "allow" loosens nothing
  assert.equal(run.limits.wallMs, 20_000);
  assert.equal(run.limits.memoryBytes, 256 * 2 ** 20);
  assert.equal(run.limits.pids, 16);
  assert.equal(run.modelOutputBytes, 8 * 1024);
  assert.equal(effectivePolicy(tool('read_file'), 'acme', policy).decision, 'deny');
  assert.equal(effectivePolicy(tool('read_file'), 'other', policy).decision, 'allow');
  assert.equal(effectivePolicy(tool('git'), 'other', policy).decision, 'deny');
  assert.equal(effectivePolicy(tool('github'), 'other', policy).decision, 'deny');
  assert.equal(effectivePolicy(tool('run_code', { decision: 'deny' }), 'other', policy).decision, 'deny');
});

test('annotations make a tool ask, and no annotation makes a denied one run', () => {
  const policy = parsePolicy(written);
  const destructive = { ...GENTLE, destructive: true, readOnly: false };
  assert.equal(effectivePolicy(tool('x', { annotations: destructive }), 'local', policy).decision, 'ask');
  assert.equal(effectivePolicy(tool('x', { annotations: destructive }), 'local', DEFAULT_POLICY).decision, 'allow');
  assert.equal(effectivePolicy(tool('x', { annotations: {} }), 'local', DEFAULT_POLICY).decision, 'ask');
  assert.equal(effectivePolicy(tool('git', { annotations: GENTLE }), 'local', policy).decision, 'deny');
});

test('limits never exceed the caps, whatever a definition says', () => {
  const greedy = tool('x', {
    limits: { memoryBytes: 2 ** 50, wallMs: 2 ** 40, pids: 2 ** 30 },
    modelOutputBytes: 2 ** 30,
  });
  const { limits, modelOutputBytes } = effectivePolicy(greedy, 'local', DEFAULT_POLICY);
  assert.equal(limits.wallMs, 300_000);
  assert.equal(limits.pids, 4_096);
  assert.equal(modelOutputBytes, 2 ** 20);
});

test('a mistake in the file is told with its place', () => {
  const cases: [string, RegExp][] = [
    ['decison: deny', /decison/],
    ['decision: maybe', /decision: expected one of allow, ask, deny/],
    ['wall_ms: 0', /wall_ms/],
    ['tools: { "a b": { decision: deny } }', /expected the name of a tool/],
    ['tenants: { "Acme!": {} }', /expected a tenant/],
    ['tenants:\n  a: {}\n  a: {}', /line 3, column 3/],
    ['tools: [', /line 1/],
    ['a: &a [1]\nb: [*a,*a,*a,*a]\nc: *missing', /missing/],
    ['- deny', /expected an object/],
  ];
  for (const [text, message] of cases) assert.throws(() => parsePolicy(text), { code: 'INVALID_ARGUMENT', message });
});

test('a text made to be slow to read is read, or refused, in bounded time', () => {
  const keys = Array.from({ length: 20_000 }, (_, i) => `a${i}: 1`).join('\n');
  const nested = '['.repeat(100_000);
  for (const text of [keys, nested, '{"a":'.repeat(40_000), '- '.repeat(100_000)]) {
    const before = process.cpuUsage();
    assert.throws(() => parsePolicy(text), { code: 'INVALID_ARGUMENT' });
    const { user, system } = process.cpuUsage(before);
    assert(user + system < 4_000_000, `${(user + system) / 1000} ms for ${text.slice(0, 10)}`);
  }
});

test('an empty file is the default', () => assert.deepEqual(parsePolicy(''), DEFAULT_POLICY));

test('two policies have the same hash only when they are the same', () => {
  const a = effectivePolicy(tool('x'), 'local', DEFAULT_POLICY);
  assert.equal(policySha256(a), policySha256(structuredClone(a)));
  assert.notEqual(policySha256(a), policySha256({ ...a, decision: 'ask' }));
  assert.notEqual(policySha256(a), policySha256({ ...a, limits: { ...a.limits, pids: 1 } }));
});

test('the call that completes reading, private data and a way out needs approval; no other does', () => {
  const flags = [false, true];
  const all: Taint[] = flags.flatMap((readUntrusted) =>
    flags.flatMap((hasPrivate) => flags.map((canExfiltrate) => ({ readUntrusted, hasPrivate, canExfiltrate }))),
  );
  const full = (t: Taint): boolean => t.readUntrusted && t.hasPrivate && t.canExfiltrate;
  let asked = 0;
  for (const before of all) {
    for (const call of all) {
      const after = {
        readUntrusted: before.readUntrusted || call.readUntrusted,
        hasPrivate: before.hasPrivate || call.hasPrivate,
        canExfiltrate: before.canExfiltrate || call.canExfiltrate,
      };
      const expected = full(after) && (!full(before) || call.canExfiltrate);
      assert.equal(taintNeedsApproval(before, call), expected, JSON.stringify({ before, call }));
      if (expected) asked++;
    }
  }
  assert.equal(asked, 23); // 27 ways for a union to be full, less the 8 from a full one, plus its 4 ways out
  // The usual story: a page was read, files were read, and now something is to be sent.
  const read = { readUntrusted: true, hasPrivate: true, canExfiltrate: false };
  assert(taintNeedsApproval(read, { ...NO_TAINT, canExfiltrate: true }));
  assert(!taintNeedsApproval(read, { ...NO_TAINT, hasPrivate: true }));
});
