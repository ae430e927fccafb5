// JSON lines on one destination. Never prompt text, never secrets: fields with such names are replaced, at any depth.
import { type Logger, pino } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

type Write = {
  (fields: object, message?: string): void;
  (message: string): void;
};

export type Log = {
  trace: Write;
  debug: Write;
  info: Write;
  warn: Write;
  error: Write;
  fatal: Write;
  child(bindings: Record<string, unknown>): Log;
};

const SECRET_NAMES = /^(?:(?:proxy-)?authorization|(?:set-)?cookie|password|secret|token|key|api-?key)$/i;
const SECRET_ENDINGS = /(?:token|secret|password|(?:api|private|signing)-?key)$/i;
/** Names under which callers' words travel in our messages. */
const TEXT = /^(?:prompt|prefix|suffix|text|content|messages|delta|completion|arguments|stdout|stderr|body)$/i;
const DEPTH_MAX = 4;
const NAMES_MAX = 1024;

type Kind = 'secret' | 'text' | 'plain';
const kinds = new Map<string, Kind>();

/** What a field of this name holds; remembered, since a service logs the same few names. */
function kindOf(name: string): Kind {
  const known = kinds.get(name);
  if (known) return known;
  const kebab = name.replaceAll('_', '-').replace(/([a-z])([A-Z])/g, '$1-$2');
  const secret = SECRET_NAMES.test(kebab) || SECRET_ENDINGS.test(kebab);
  const kind = secret ? 'secret' : TEXT.test(name) ? 'text' : 'plain';
  if (kinds.size < NAMES_MAX) kinds.set(name, kind);
  return kind;
}

function redactValue(name: string, value: unknown, depth: number): unknown {
  if (value === null || value === undefined || typeof value === 'number' || typeof value === 'boolean') return value;
  const kind = kindOf(name);
  if (kind === 'secret') return '[redacted]';
  if (kind === 'text') return typeof value === 'string' ? `[${value.length} chars]` : '[text]';
  return redact(value, depth + 1);
}

/** A copy without secrets and callers' text. Errors pass: pino's own serializer prints them. */
function redact(value: unknown, depth: number): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null || value instanceof Error || value instanceof Date) return value;
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth >= DEPTH_MAX) return '[deep]';
  if (value instanceof Map) return redact(Object.fromEntries(value), depth);
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  const copy: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) copy[name] = redactValue(name, item, depth);
  return copy;
}

/** pino's formatters do not see the bindings of children, so those are redacted here. */
function wrap(logger: Logger): Log {
  const at = (level: Exclude<LogLevel, 'silent'>): Write => logger[level].bind(logger) as Write;
  return {
    trace: at('trace'),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
    child: (bindings) => wrap(logger.child(redact(bindings, 0) as Record<string, unknown>)),
  };
}

/**
 * A logger of one service. `destination` is anything with write(line); standard output by default, written
 * synchronously so that the last lines of a dying process are there.
 */
export function createLog(options: {
  service: string;
  level: LogLevel;
  destination?: { write(line: string): void };
}): Log {
  const settings = {
    level: options.level,
    base: { service: options.service, pid: process.pid },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: Record<string, unknown>) => redact(fields, 0) as Record<string, unknown>,
    },
  };
  return wrap(pino(settings, options.destination ?? pino.destination({ fd: 1, sync: true })));
}
