/** What `quern up` says: progress while parts start, then one table. As text for people, as JSON lines for programs. */
import { formatNarrowTable } from '../table.ts';
import { textFor } from '../terminal-text.ts';

/** Of terminals that people have. */
const TABLE_COLUMNS = 100;

export type UpEvent =
  | { event: 'starting'; name: string }
  | { event: 'started'; name: string; pid: number }
  | { event: 'progress'; name: string; phase: string; done: number; total: number }
  | { event: 'part_ready'; name: string; seconds: number }
  | { event: 'exited'; name: string; reason: string; restart_in_ms: number | null }
  | ReadyEvent
  | { event: 'draining'; reason: string }
  | { event: 'stopped' };

/** `keys`: the file that lists who may call; null when everyone on this machine may. */
export type ReadyEvent = {
  event: 'ready';
  http: string;
  grpc: string;
  /** Both speak TLS. */
  tls: boolean;
  seconds: number;
  parts: PartRow[];
  models: string[];
  keys: string | null;
  /** Jaeger's address, when it was started here. */
  traces?: string | null;
};

/** `pid` null: it does not run, or not here. */
export type PartRow = { name: string; pid: number | null; where: string; what: string };

export type Reporter = (event: UpEvent) => void;

/** JSON lines: one event each. */
export function jsonReporter(out: NodeJS.WriteStream): Reporter {
  return (event) => out.write(`${JSON.stringify(event)}\n`);
}

/**
 * Plain lines; on a terminal the progress line is rewritten in place. A part that is started again and again, and each time ends for
 * the same reason, is told of once.
 */
export function textReporter(out: NodeJS.WriteStream): Reporter {
  let transient = false;
  const told = new Map<string, string>();
  const line = (text: string): void => {
    if (transient) out.write('\r\u001b[K');
    transient = false;
    out.write(`${textFor(out, text)}\n`);
  };
  return (event) => {
    if (event.event === 'progress') {
      if (!out.isTTY) return;
      out.write(`\r\u001b[K${event.name}: ${event.phase} ${share(event.done, event.total)}`);
      transient = true;
      return;
    }
    if (event.event === 'part_ready') told.delete(event.name);
    if (event.event === 'exited') {
      if (told.get(event.name) === event.reason) return;
      told.set(event.name, event.reason);
    }
    const text = describe(event);
    if (text !== null) line(text);
  };
}

/** The line for an event; null for those that only programs want. */
function describe(event: Exclude<UpEvent, { event: 'progress' }>): string | null {
  switch (event.event) {
    case 'part_ready':
      return `${event.name}: ready in ${event.seconds.toFixed(1)} s`;
    case 'exited': {
      const next = event.restart_in_ms === null ? '' : `; starting it again in ${event.restart_in_ms} ms`;
      return `${event.name}: ${event.reason}${next}`;
    }
    case 'ready':
      return readyText(event);
    case 'draining':
      return `${event.reason}: finishing what runs, refusing what is new (again to end at once)`;
    case 'stopped':
      return 'stopped';
    case 'starting':
    case 'started':
      return null;
  }
}

function share(done: number, total: number): string {
  return total > 0 ? `${Math.min(100, Math.floor((done / total) * 100))} %` : '';
}

/** The table, with the folder of the sockets named once below it. */
function partTable(parts: readonly PartRow[]): string {
  const [, folder = ''] = /unix:\/\/(\/\S*\/)[^\s/,]+\.sock/.exec(parts.map(({ where }) => where).join(', ')) ?? [];
  const rows = parts.map(({ name, pid, where, what }) => {
    const short = folder === '' ? where : where.replaceAll(`unix://${folder}`, '');
    return [name, pid === null ? '-' : String(pid), short, what];
  });
  const table = formatNarrowTable(['part', 'pid', 'where', 'what'], rows, TABLE_COLUMNS);
  return folder === '' ? table : `${table}Sockets lie in ${folder}.\n`;
}

function readyText(event: ReadyEvent): string {
  const model = event.models.length > 1 ? ` --model ${event.models[0]}` : '';
  const scheme = event.tls ? 'https://' : '';
  const gateway = event.grpc === '127.0.0.1:50051' && !event.tls ? '' : ` --gateway ${scheme}${event.grpc}`;
  const body = JSON.stringify({ model: event.models[0], prompt: 'import ' });
  const key = event.keys === null ? '' : ` -H "authorization: Bearer $QUERN_API_KEY"`;
  const keyLines = [
    'Callers need an API key. To make one, and then to try:',
    `  npx quern keys create --file ${event.keys} --tenant T --user U`,
    '  export QUERN_API_KEY=qk_...',
  ];
  return [
    '',
    partTable(event.parts),
    `Ready in ${event.seconds.toFixed(1)} s. Ctrl-C drains and stops.${event.keys === null ? ' To try:' : ''}`,
    ...(event.keys === null ? [] : keyLines),
    `  npx quern complete${gateway}${model} "def add(a, b):"`,
    `  npx quern chat${gateway}${model}`,
    `  curl -s ${scheme || 'http://'}${event.http}/v1/completions${key} -H 'content-type: application/json' -d '${body}'`,
    ...(event.traces
      ? [
          `Traces: ${event.traces}/search?service=gateway`,
          `  one answer's: ${event.traces}/trace/TRACE_ID, which is its header x-trace-id`,
        ]
      : []),
    '',
  ].join('\n');
}
