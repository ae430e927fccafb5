/** Ended calls are garbage for a minor collection: what is moved to the old generation instead makes pauses longer. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const MANY_CALLS = join(import.meta.dirname, 'support', 'many-calls.ts');
/** 0.011 as it is; 0.16 to 0.27 with getters in the object literals that a handler sees. */
const PROMOTED_SHARE_MAX = 0.05;

test('hardly anything of an ended call is moved to the old generation', async () => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--trace-gc-nvp', '--max-semi-space-size=1', MANY_CALLS],
    {
      maxBuffer: 1 << 26,
      env: { ...process.env, NODE_OPTIONS: '' },
    },
  );
  const sum = (field: string): number =>
    [...stdout.matchAll(new RegExp(` gc=s .* ${field}=(\\d+)`, 'g'))].reduce((all, [, n]) => all + Number(n), 0);
  assert.ok(sum('allocated') > 1e8, `expected many scavenges, got ${stdout.length} characters of trace`);
  assert.ok(sum('promoted') > 0, 'what starting makes is promoted: without a figure the trace has another form');
  const share = sum('promoted') / sum('allocated');
  assert.ok(share < PROMOTED_SHARE_MAX, `expected less than ${PROMOTED_SHARE_MAX} to be promoted, got ${share}`);
});
