/** `quern audit query` and `quern audit tail`: what was asked of the mesh, and what happens now. */
import type { QueryRequest, QueryResponse, TailResponse } from '#gen/quern/audit/v1/audit.ts';
import type { Io } from '../command.ts';
import { choice, parseOptions, wholeNumber } from '../options.ts';
import { oneLine, textFor } from '../terminal-text.ts';
import { AUDIT_OPTIONS, connectAudit } from './audit-client.ts';
import { fittedTable } from './fitted-table.ts';
import { instant } from './instant.ts';
import { jsonLine, requestTable, requestText } from './request-rows.ts';
import { collect, noPositionals, TENANT_DEFAULT } from './words.ts';

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 100_000;
const BACKLOG_MAX = 1_000;
const KINDS = ['request', 'agent', 'tool'] as const;

const FILTERS = {
  tenant: { type: 'string' },
  user: { type: 'string' },
  since: { type: 'string' },
  until: { type: 'string' },
  request: { type: 'string' },
  trace: { type: 'string' },
  kind: { type: 'string' },
} as const;

export async function queryRequests(args: string[], io: Io): Promise<number> {
  const options = {
    ...AUDIT_OPTIONS,
    ...FILTERS,
    limit: { type: 'string' },
    content: { type: 'boolean' },
    json: { type: 'boolean' },
    wide: { type: 'boolean' },
  } as const;
  const { values, positionals } = parseOptions(args, options);
  noPositionals('query', positionals);
  const kind = choice('kind', values.kind, KINDS);
  const request: QueryRequest = {
    tenant: values.tenant ?? TENANT_DEFAULT,
    user: values.user ?? '',
    requestId: values.request ?? '',
    traceId: values.trace ?? '',
    since: instant('since', values.since, Date.now()),
    until: instant('until', values.until, Date.now()),
    limit: wholeNumber('limit', values.limit, LIMIT_DEFAULT, 1, LIMIT_MAX),
    exports: false,
    withPrompts: values.content ?? false,
    withAnswers: values.content ?? false,
    kinds: kind === undefined ? [...KINDS] : [kind],
  };
  const audit = connectAudit(values.address, io);
  try {
    if (values.json) {
      for await (const row of audit.query(request)) io.stdout.write(textFor(io.stdout, jsonLine(row)));
      return 0;
    }
    if (values.content) {
      let count = 0;
      for await (const row of audit.query(request)) {
        io.stdout.write(textFor(io.stdout, `${count === 0 ? '' : '\n'}${requestText(row)}`));
        count += 1;
      }
      io.stderr.write(summary(count, request));
      return 0;
    }
    const rows = await collect(audit.query(request));
    if (rows.length > 0) printTable(rows, values.wide ? undefined : io.stdout.columns, io);
    io.stderr.write(summary(rows.length, request));
    return 0;
  } finally {
    audit.close();
  }
}

/** `width`: of the terminal; absent where there is none, as in a pipe, or where all is wanted. */
function printTable(rows: readonly QueryResponse[], width: number | undefined, io: Io): void {
  if (width === undefined) {
    io.stdout.write(requestTable(rows));
    return;
  }
  const { table, isShortened } = fittedTable(rows, width);
  io.stdout.write(table);
  if (isShortened)
    io.stderr.write(`fitted to ${width} columns; --wide has whole ids and all columns, --json all there is\n`);
}

const NAMES = { request: 'request', agent: 'agent run', tool: 'tool call' };

function summary(count: number, { tenant, limit, kinds }: QueryRequest): string {
  const asked = KINDS.filter((kind) => kinds.includes(kind)).map((kind) => NAMES[kind]);
  if (count === 0)
    return `no such ${asked.join(', ').replace(/, ([^,]*)$/, ' or $1')} of tenant "${tenant}" in the log (--tenant names another)\n`;
  return count < limit ? '' : `the newest ${count}; --limit gives more\n`;
}

/** "12:00:01.123 request.finished ok ada quern-mini STOP 0198…" */
function tailLine(row: TailResponse): string {
  const actor = row.actor || `${row.actorKind}:${row.actorRef.slice(0, 8)}`;
  const parts = [row.time, row.action, row.outcome, actor, row.target, row.reason, row.requestId];
  return `${oneLine(parts.filter((part) => part !== '').join('  '))}\n`;
}

export async function followRecords(args: string[], io: Io): Promise<number> {
  const options = {
    ...AUDIT_OPTIONS,
    tenant: { type: 'string' },
    backlog: { type: 'string' },
    json: { type: 'boolean' },
  } as const;
  const { values, positionals } = parseOptions(args, options);
  noPositionals('tail', positionals);
  const backlog = wholeNumber('backlog', values.backlog, 10, 0, BACKLOG_MAX);
  const audit = connectAudit(values.address, io);
  try {
    for await (const row of audit.tail({ tenant: values.tenant ?? TENANT_DEFAULT, backlog })) {
      io.stdout.write(values.json ? textFor(io.stdout, jsonLine(row)) : tailLine(row));
    }
    io.stderr.write('the audit service has stopped\n');
    return 0;
  } catch (error) {
    if (io.signal.aborted) return 0; // Ctrl-C is how one leaves
    throw error;
  } finally {
    audit.close();
  }
}
