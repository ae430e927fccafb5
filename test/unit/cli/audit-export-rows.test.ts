/** Rows that come newest first, in pages, are a file that begins with the oldest: the same bytes whatever is held at once. */
import assert from 'node:assert/strict';
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { QueryRequest, QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { type RowsOptions, writeRows } from '../../../services/cli/audit/export-rows.ts';
import { classicRow, csvLine } from '../../../services/cli/audit/request-rows.ts';

const ALL = { tenant: 'local', user: '', since: '', until: '', withPrompts: true };
const BEGIN_MS = Date.UTC(2026, 0, 1);

const at = (ms: number): string => new Date(BEGIN_MS + ms).toISOString();

function row(index: number, ms: number): QueryResponse {
  return {
    requestId: `r${index}`,
    tenant: 'local',
    user: 'ada',
    userRef: 'ab',
    accepted: at(ms),
    finished: '',
    model: 'quern-mini',
    outcome: '',
    code: '',
    reason: '',
    traceId: '',
    clientIp: '192.0.2.7',
    keyId: 'k1',
    usage: new Map([['latency_ms', BigInt(index)]]),
    acceptedIndex: BigInt(index),
    finishedIndex: undefined,
    kind: 'request',
    tool: undefined,
    prompt: index % 5 === 0 ? undefined : `${index}: größer — 好\n${'x'.repeat(index % 97)}`,
  };
}

/** As the service answers: newest first, from `since` on and before `until`, at most `limit`. */
function service(rows: readonly QueryResponse[]) {
  const asked: QueryRequest[] = [];
  async function* query(request: QueryRequest): AsyncGenerator<QueryResponse> {
    asked.push(request);
    const { since, until, limit } = request;
    const found = rows.filter(({ accepted }) => accepted >= since && (until === '' || accepted < until));
    yield* found.reverse().slice(0, limit);
  }
  return { query, asked };
}

async function written(t: TestContext, source: Pick<ReturnType<typeof service>, 'query'>, over: Partial<RowsOptions>) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-rows-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const file = join(dir, 'out.txt');
  const handle = await open(file, 'w');
  try {
    const count = await writeRows(source, { query: ALL, line: classicRow, handle, file, ...over });
    return { count, text: await readFile(file, 'utf8') };
  } finally {
    await handle.close();
    assert.deepEqual(await readdir(dir), ['out.txt'], 'nothing else stays there');
  }
}

test('every row once, oldest first, in any page and block, in both forms', async (t) => {
  const rows = Array.from({ length: 200 }, (_, i) => row(i, Math.floor(i / 3))); // three in a millisecond
  for (const line of [classicRow, csvLine]) {
    const expected = rows.map(line).join('');
    for (const rowsMax of [4, 5, 7, 50, 199, 200, 201, 1000]) {
      for (const blockBytes of [1, 333, 1024 * 1024]) {
        const { count, text } = await written(t, service(rows), { line, rowsMax, blockBytes });
        assert.deepEqual([count, text === expected], [200, true], `${rowsMax} rows, ${blockBytes} bytes`);
      }
    }
  }
  assert.deepEqual(await written(t, service([]), {}), { count: 0, text: '' });
});

test('one call while the rows fit it; then each goes on where the one before it ended; bounds are kept', async (t) => {
  const rows = Array.from({ length: 30 }, (_, i) => row(i, i));
  const [one, many] = [service(rows), service(rows)];
  await written(t, one, {});
  assert.deepEqual(
    one.asked.map(({ limit, until, exports, withPrompts }) => [limit, until, exports, withPrompts]),
    [[100_000, '', true, true]],
  );
  const query = { ...ALL, since: at(5), until: at(25) };
  const { count, text } = await written(t, many, { query, rowsMax: 11 });
  assert.deepEqual([count, text], [20, rows.slice(5, 25).map(classicRow).join('')]);
  assert.deepEqual(
    many.asked.map(({ since, until }) => [since, until]),
    [
      [at(5), at(25)], // 24 to 14
      [at(5), at(15)], // 14, which was there, to 5
    ],
  );
});

test('more rows in one millisecond than a call gives are an error, and so is a call that fails', async (t) => {
  const rows = Array.from({ length: 20 }, (_, i) => row(i, i < 10 ? 0 : i));
  await assert.rejects(written(t, service(rows), { rowsMax: 8 }), {
    code: 'RESOURCE_EXHAUSTED',
    message: 'more than 8 requests in one millisecond',
  });
  async function* query(): AsyncGenerator<QueryResponse> {
    yield row(1, 1);
    throw new Error('connection lost');
  }
  await assert.rejects(written(t, { query }, {}), /connection lost/);
});
