// The short form of audit-storm.ts: what a client was answered is in the log, exactly once, whatever is killed meanwhile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { auditChaos } from './audit-chaos.ts';

test('killed gateways, audit services and nats-servers lose no request and record none twice', {
  timeout: 240_000,
}, async (t) => {
  const seed = Math.floor(Math.random() * 1_000_000);
  t.diagnostic(`seed ${seed}: npm run chaos:audit -- 15 ${seed}`);
  const report = await auditChaos(t, { seconds: 15, seed, concurrency: 8 });
  t.diagnostic(JSON.stringify(report));
  assert.deepEqual(report.wrong, []);
  assert.equal(report.verdict, 'ok');
  assert.equal(report.verdictOfTrusted, 'ok');
  assert.ok(report.answered > 30, `${report.answered} requests were answered`);
  assert.equal(Object.keys(report.faults).length, 7, JSON.stringify(report.faults));
  assert.ok(report.records >= 2 * report.answered, `${report.records} records`);
});
