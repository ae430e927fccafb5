/** Rows of requests, agent runs and tool calls as a table, as CSV and in the classic form of one line per request. */
import type { QueryResponse, ToolCallRow } from '#gen/quern/audit/v1/audit.ts';
import { classicLine } from '#kit/audit/classic-line.ts';
import { localPrincipal } from '#kit/principal.ts';
import { formatTable } from '../table.ts';
import { oneLine } from '../terminal-text.ts';

const count = (row: QueryResponse, name: string): string => row.usage.get(name)?.toString() ?? '';

/** A person's id, or that there is none any more. */
const who = ({ user }: QueryResponse): string => user || '(erased)';

/** "812 ms (q 3, p 41, d 768)": all, queue, prefill, decode; without what no engine measured. Of a tool call "95 ms (setup 60)". */
function latency(row: QueryResponse): string {
  if (row.tool) {
    const [run, setup] = ['run_ms', 'setup_us'].map((name) => row.usage.get(name));
    return run === undefined ? '' : `${run} ms${setup === undefined ? '' : ` (setup ${setup / 1000n})`}`;
  }
  const [all, queue, prefill, decode] = ['latency_ms', 'queue_ms', 'prefill_ms', 'decode_ms'].map((name) =>
    count(row, name),
  );
  if (all === '') return '';
  return queue === '' ? `${all} ms` : `${all} ms (q ${queue}, p ${prefill}, d ${decode})`;
}

/** How it ended: the finish reason, and what is not ok. */
function ending(row: QueryResponse): string {
  const asked = row.tool ? approval(row.tool) : '';
  if (row.finished === '') return `not finished${asked}`;
  const reason = row.reason.toLowerCase();
  const code = row.usage.get('exit_code') ?? 0n;
  const how = row.outcome === 'ok' || reason === row.outcome ? reason : `${row.outcome} ${reason}`.trim();
  return `${how}${code === 0n ? '' : ` ${code}`}${asked}`;
}

/** ", approved by ada". */
function approval({ approval: said, approvedBy, approvalReason }: ToolCallRow): string {
  if (said === '') return '';
  if (approvedBy !== '') return `, ${said} by ${approvedBy}`;
  return `, ${said}${said === 'denied' && approvalReason !== '' ? ` (${approvalReason.toLowerCase()})` : ''}`;
}

/** What was asked: the model of a request or run, the tool of a call with its version. */
function what({ kind, model, tool }: QueryResponse): string {
  if (tool) return `tool ${tool.name}${tool.version === '' ? '' : ` ${tool.version}`}`;
  return kind === 'agent' ? `run ${model}` : model;
}

/** Whose workspace, where that is not the run's own. */
const session = ({ tool, requestId }: QueryResponse): string =>
  tool === undefined || tool.sessionId === requestId ? '' : tool.sessionId;

type Column = [title: string, cellOf: (row: QueryResponse) => string];

/** Where there is no keys file every caller has the same key, which says nothing. */
const isKey = (keyId: string): boolean => keyId !== '' && keyId !== localPrincipal.keyId;

/** The columns that these rows have something for. */
export function requestColumns(rows: readonly QueryResponse[]): Column[] {
  return [
    ['time', ({ accepted }) => accepted],
    ['user', who],
    ['from', ({ clientIp }) => clientIp],
    ...(rows.some(({ keyId }) => isKey(keyId)) ? [['key', ({ keyId }) => keyId] satisfies Column] : []),
    ['what', what],
    ['in', (row) => count(row, 'prompt_tokens')],
    ['out', (row) => count(row, 'completion_tokens')],
    ['latency', latency],
    ['end', ending],
    ...(rows.some((row) => session(row) !== '') ? [['session', session] satisfies Column] : []),
    ['request', ({ requestId }) => requestId],
    ['trace', ({ traceId }) => traceId],
  ];
}

/** With all that there is, however wide. */
export function requestTable(rows: readonly QueryResponse[]): string {
  const columns = requestColumns(rows);
  return formatTable(
    columns.map(([title]) => title),
    rows.map((row) => columns.map(([, cellOf]) => cellOf(row))),
  );
}

/** Text that is kept, each line behind a bar, so that none of them is taken for anything else. */
function keptLines(name: string, text: string | undefined, bytes: bigint | undefined): string[] {
  if (text === undefined) return [`  ${name}: ${bytes === 0n ? 'empty' : 'not kept, or not readable any more'}`];
  return [`  ${name}:`, ...text.split('\n').map((line) => `  | ${line}`)];
}

/** One request with the text of its prompt and answer; of runs and tool calls no text is ever kept. */
export function requestText(row: QueryResponse): string {
  const head = [row.accepted, who(row), what(row), latency(row), ending(row), row.requestId];
  const first = oneLine(head.filter((part) => part !== '').join('  '));
  if (row.kind !== 'request') return `${first}\n`;
  const prompt = keptLines('prompt', row.prompt, row.usage.get('prompt_bytes'));
  const answer = keptLines('answer', row.answer, row.usage.get('response_bytes'));
  return `${[first, ...prompt, ...answer].join('\n')}\n`;
}

const USAGE = [
  'prompt_bytes',
  'prompt_tokens',
  'cached_tokens',
  'completion_tokens',
  'response_bytes',
  'queue_ms',
  'prefill_ms',
  'decode_ms',
  'latency_ms',
];

/** RFC 4180; a cell that a spreadsheet would take for a formula begins with an apostrophe. */
function cell(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function csvHeader(): string {
  const names = [
    'accepted',
    'finished',
    'tenant',
    'user',
    'user_ref',
    'client_ip',
    'key_id',
    'model',
    'outcome',
    'code',
  ];
  return `${[...names, 'reason', 'request_id', 'trace_id', ...USAGE].join(',')}\r\n`;
}

export function csvLine(row: QueryResponse): string {
  const { accepted, finished, tenant, user, userRef, clientIp, keyId, model, outcome, code, reason } = row;
  const cells = [accepted, finished, tenant, user, userRef, clientIp, keyId, model, outcome, code, reason];
  const usage = USAGE.map((name) => count(row, name));
  return `${[...cells, row.requestId, row.traceId, ...usage].map(cell).join(',')}\r\n`;
}

/** Of a request that has not ended there are none. */
function measured(row: QueryResponse, name: string): number | null {
  const value = row.usage.get(name);
  return value === undefined ? null : Number(value);
}

/** [TIMESTAMP] [CLIENT_IP] [USER_ID] [PROMPT] [RESPONSE_LENGTH] [LATENCY]: bytes and milliseconds. */
export function classicRow(row: QueryResponse): string {
  return classicLine({
    timestamp: row.accepted,
    clientIp: row.clientIp,
    userId: row.user,
    prompt: row.prompt ?? '',
    responseLength: measured(row, 'response_bytes'),
    latencyMs: measured(row, 'latency_ms'),
  });
}

/** One JSON object per line; numbers as they are. */
export function jsonLine(row: object): string {
  const plainValues = (_: string, value: unknown): unknown => {
    if (typeof value === 'bigint') return Number(value);
    return value instanceof Map ? Object.fromEntries(value) : value;
  };
  return `${JSON.stringify(row, plainValues)}\n`;
}
