import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { instant } from '../../../services/cli/audit/instant.ts';
import {
  classicRow,
  csvHeader,
  csvLine,
  jsonLine,
  requestTable,
  requestText,
} from '../../../services/cli/audit/request-rows.ts';

const ROW: QueryResponse = {
  requestId: 'r1',
  tenant: 'local',
  user: 'ada',
  userRef: 'ab',
  accepted: '2026-01-01T00:00:00.000Z',
  finished: '2026-01-01T00:00:01.000Z',
  model: 'quern-mini',
  outcome: 'ok',
  code: 'OK',
  reason: 'STOP',
  traceId: 't1',
  clientIp: '192.0.2.7',
  keyId: 'k1',
  usage: new Map(
    Object.entries({
      prompt_bytes: 40n,
      prompt_tokens: 12n,
      cached_tokens: 4n,
      completion_tokens: 7n,
      response_bytes: 31n,
      queue_ms: 1n,
      prefill_ms: 2n,
      decode_ms: 30n,
      latency_ms: 35n,
    }),
  ),
  acceptedIndex: 0n,
  finishedIndex: 1n,
  prompt: undefined,
  answer: undefined,
  kind: 'request',
  tool: undefined,
};

const CALL: QueryResponse = {
  ...ROW,
  kind: 'tool',
  model: '',
  outcome: 'error',
  reason: 'NONZERO_EXIT',
  usage: new Map(Object.entries({ run_ms: 95n, setup_us: 60_900n, exit_code: 3n })),
  tool: {
    name: 'run_code',
    version: '1',
    sha256: 'ab',
    executionId: 'X',
    callId: 'c',
    sessionId: 's1',
    approval: 'approved',
    approvedBy: 'bob',
    approvalReason: '',
    policySha256: 'cd',
    argumentsMac: 'ef',
  },
};

test('a tool call has its tool, times, exit code, approval and session; a run its model', () => {
  const run: QueryResponse = { ...ROW, kind: 'agent', reason: 'DONE' };
  const [head, , call, agent] = requestTable([CALL, run]).split('\n');
  assert.match(head!, /^time +user +from +key +what +in +out +latency +end +session +request +trace$/);
  assert.match(call!, / tool run_code 1 +95 ms \(setup 60\) +error nonzero_exit 3, approved by bob +s1 +r1 +t1$/);
  assert.match(agent!, / run quern-mini +12 +7 .* done +r1 +t1$/);
  const told = (over: Partial<NonNullable<QueryResponse['tool']>>, row: Partial<QueryResponse> = {}): string =>
    requestTable([{ ...CALL, ...row, usage: new Map(), tool: { ...CALL.tool!, ...over } }]).split('\n')[2]!;
  const refused = { approval: 'denied', approvedBy: '', approvalReason: 'EXPIRED' };
  const ended = { outcome: 'denied', reason: 'DENIED_APPROVAL' };
  assert.match(told({ ...refused, version: '' }, ended), / tool run_code +denied denied_approval, denied \(expired\) /);
  assert.match(told({ approvedBy: '' }, { finished: '' }), / not finished, approved +s1 /);
  assert.doesNotMatch(requestTable([ROW, { ...CALL, tool: { ...CALL.tool!, sessionId: 'r1' } }]), /session/);
  assert.equal(requestText(CALL).split('\n').length, 2, 'no text of theirs is kept');
});

test('the table has who, from where, by which key, what, tokens, the split of the latency and how it ended', () => {
  const [, , line] = requestTable([ROW]).split('\n');
  assert.equal(
    line,
    '2026-01-01T00:00:00.000Z  ada   192.0.2.7  k1   quern-mini  12  7    35 ms (q 1, p 2, d 30)  stop  r1       t1',
  );
  const keyless = requestTable([{ ...ROW, keyId: 'local' }]).split('\n');
  assert.match(keyless[0]!, /^time +user +from +what /, 'where there are no keys there is no column of theirs');
  assert.match(keyless[2]!, / ada +192\.0\.2\.7 +quern-mini /);
  const open: QueryResponse = { ...ROW, user: '', finished: '', outcome: '', usage: new Map() };
  assert.match(requestTable([open]), /\(erased\) .* not finished /);
  const unmeasured: QueryResponse = { ...ROW, usage: new Map([['latency_ms', 12n]]) };
  assert.match(requestTable([unmeasured]), / 12 ms +stop /);
  assert.match(requestTable([{ ...ROW, outcome: 'error', reason: 'ENGINE_LOST' }]), / error engine_lost /);
});

test('with content each request has its prompt and answer below it', () => {
  const text = requestText({ ...ROW, prompt: 'def f():\n  |\u001b[2J', answer: '' });
  assert.deepEqual(text.split('\n'), [
    '2026-01-01T00:00:00.000Z  ada  quern-mini  35 ms (q 1, p 2, d 30)  stop  r1',
    '  prompt:',
    '  | def f():',
    '  |   |\u001b[2J',
    '  answer:',
    '  | ',
    '',
  ]);
  assert.match(requestText(ROW), /\n {2}prompt: not kept, .*\n {2}answer: not kept, /);
  const silent: QueryResponse = { ...ROW, usage: new Map([['response_bytes', 0n]]) };
  assert.match(requestText(silent), /\n {2}prompt: not kept, .*\n {2}answer: empty\n/);
});

test('what a client wrote moves no cursor and looks like no other field', () => {
  const evil: QueryResponse = { ...ROW, user: 'a\u001b[2J] [root', requestId: 'x\ny' };
  for (const part of ['\u001b', 'x\ny']) assert.equal(requestTable([evil]).includes(part), false);
  const line = classicRow(evil);
  assert.equal(line.split('\n').length, 2);
  assert.match(line, /\[a\\u\{1b\}\\\[2J\\\] \\\[root\]/);
});

test('classic is one bracketed line with bytes and milliseconds, "-" for what is not there', () => {
  assert.equal(classicRow(ROW), '[2026-01-01T00:00:00.000Z] [192.0.2.7] [ada] [-] [31] [35]\n');
  const open: QueryResponse = { ...ROW, user: '', clientIp: '', usage: new Map() };
  assert.match(classicRow({ ...ROW, prompt: 'def f(x):\n' }), / \[def f\(x\):\\n\] \[31\] /);
  assert.equal(classicRow(open), '[2026-01-01T00:00:00.000Z] [-] [-] [-] [-] [-]\n');
});

test('CSV has as many cells as names, and no cell that a spreadsheet would run', () => {
  const names = csvHeader().trimEnd().split(',');
  assert.equal(csvLine(ROW).trimEnd().split(',')[names.indexOf('prompt_bytes')], '40');
  assert.equal(csvLine(ROW).trimEnd().split(',').length, names.length);
  for (const start of ['=', '+', '-', '@']) {
    const line = csvLine({ ...ROW, user: `${start}cmd()` });
    assert.ok(line.includes(`,'${start}cmd(),`), line);
  }
  assert.ok(csvLine({ ...ROW, user: 'a,"b"\n' }).includes(',"a,""b""\n",'));
});

test('JSON has numbers for numbers', () => {
  const parsed = JSON.parse(jsonLine(ROW)) as { usage: Record<string, number>; acceptedIndex: number };
  assert.deepEqual([parsed.usage.latency_ms, parsed.acceptedIndex], [35, 0]);
});

test('times are ago or dates', () => {
  const now = Date.parse('2026-01-31T00:00:00.000Z');
  assert.equal(instant('since', undefined, now), '');
  assert.equal(instant('since', '1d', now), '2026-01-30T00:00:00.000Z');
  assert.equal(instant('since', '90s', now), '2026-01-30T23:58:30.000Z');
  assert.equal(instant('since', '2w', now), '2026-01-17T00:00:00.000Z');
  assert.equal(instant('since', '2026-01-01', now), '2026-01-01T00:00:00.000Z');
  for (const bad of ['', '1y', 'yesterday', '-1d']) {
    assert.throws(() => instant('since', bad, now), {
      code: 'INVALID_ARGUMENT',
      message: /--since: expected a time ago/,
    });
  }
});
