/** The table of requests at terminals of several widths: it fits, and what is told first is lost last. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { fittedTable } from '../../../services/cli/audit/fitted-table.ts';
import { requestTable } from '../../../services/cli/audit/request-rows.ts';

const ROW: QueryResponse = {
  requestId: '01a1ff2a-930c-73a6-a7ac-8eb4932f0832',
  tenant: 'local',
  user: 'ada',
  userRef: 'ab',
  accepted: '2026-11-21T17:32:22.669Z',
  finished: '2026-11-21T17:32:22.875Z',
  model: 'quern-mini',
  outcome: 'ok',
  code: 'OK',
  reason: 'LENGTH',
  traceId: '8b9307ebba016c74101553dc98db9744',
  clientIp: '192.0.2.7',
  keyId: 'k1',
  usage: new Map(
    Object.entries({
      prompt_tokens: 1200n,
      completion_tokens: 24n,
      latency_ms: 206n,
      queue_ms: 1n,
      prefill_ms: 6n,
      decode_ms: 141n,
    }),
  ),
  acceptedIndex: 0n,
  finishedIndex: 1n,
  kind: 'request',
  tool: undefined,
};
const LONG: QueryResponse = {
  ...ROW,
  user: 'someone.with.a.long.name@department.example',
  model: 'Qwen2.5-Coder-1.5B-Instruct-of-our-own-tuning',
  outcome: 'error',
  reason: 'RESOURCE_EXHAUSTED',
};

function widest(table: string): number {
  return Math.max(...table.split('\n').map((line) => line.length));
}

test('at 200 columns nothing is lost', () => {
  assert.deepEqual(fittedTable([ROW], 200), { table: requestTable([ROW]), isShortened: false });
});

test('at 120 columns ids and time are shorter, at 80 the trace, the key and the address are gone too', () => {
  assert.deepEqual(fittedTable([ROW], 120).table.split('\n'), [
    'time (UTC)           user  from       key  what        in    out  latency  end     request        trace',
    '-------------------  ----  ---------  ---  ----------  ----  ---  -------  ------  -------------  -------------',
    '2026-11-21 17:32:22  ada   192.0.2.7  k1   quern-mini  1200  24   206 ms   length  01a1ff2a…0832  8b9307eb…9744',
    '',
  ]);
  assert.deepEqual(fittedTable([ROW], 80).table.split('\n'), [
    'time (UTC)      user  what        in    out  latency  end     request',
    '--------------  ----  ----------  ----  ---  -------  ------  -------------',
    '11-21 17:32:22  ada   quern-mini  1200  24   206 ms   length  01a1ff2a…0832',
    '',
  ]);
});

test('it fits at every width that a terminal has, whatever names are in it', () => {
  for (let width = 80; width <= 260; width += 1) {
    const { table, isShortened } = fittedTable([ROW, LONG], width);
    assert.ok(widest(table) <= width, `${widest(table)} columns at ${width}:\n${table}`);
    assert.equal(isShortened, table !== requestTable([ROW, LONG]), `at ${width}`);
    assert.equal(table.split('\n').length, 5);
  }
  const cut = fittedTable([ROW, LONG], 80).table.split('\n')[3]!;
  assert.match(cut, / Qwen2\S*… /);
});

test('what others wrote moves no cursor here either', () => {
  const { table } = fittedTable([{ ...ROW, user: 'a\u001b[2J\nb' }], 80);
  assert.equal(table.includes('\u001b'), false);
  assert.equal(table.split('\n').length, 4);
});
