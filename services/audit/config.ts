// The audit service's settings from the environment. The only file here that reads it.
import { resolve } from 'node:path';
import { operatorEnv, operatorProblems, operatorTokenOf } from '#kit/audit/operator-token.ts';
import { bytes, duration_ms, int, list, oneOf, path, readEnv, str } from '#kit/env.ts';
import { secretFile } from '#kit/env-files.ts';
import { type InternalAccess, internalEnv, internalProblems, takeInternal } from '#kit/internal-access.ts';
import { DRAIN_GRACE_MS } from '#kit/limits.ts';
import { type MetricsAddress, metricsListenField, parseMetricsListen } from '#kit/metrics-listen.ts';
import { type TracingConfig, takeTracing, tracingEnv } from '#kit/otlp/settings.ts';
import { type CoverageSocket, coverageProblems, socketPath } from './coverage-socket.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const GIB = 1024 ** 3;

export const auditEnv = {
  listen: str('QUERN_AUDIT_LISTEN', {
    doc: 'Where the service listens, unix:///path, or host:port with a shared token or mutual TLS',
    default: '127.0.0.1:50055',
  }),
  coverageListen: str('QUERN_AUDIT_COVERAGE_LISTEN', {
    doc: 'Second socket, unix:///path in a folder of its own, for a tool service of another account: it answers what is covered',
    default: null,
  }),
  coverageGroup: int('QUERN_AUDIT_COVERAGE_GROUP', {
    doc: 'Number of the group that may use it, and nobody else may: that of the account under which tools run',
    default: null,
    min: 1,
    max: 4_294_967_294,
  }),
  nats: str('QUERN_NATS_URL', {
    doc: 'NATS servers, separated by commas; credentials as in nats://user:password@host:4222',
    default: 'nats://127.0.0.1:4222',
  }),
  natsFile: secretFile('QUERN_NATS_URL_FILE', { doc: 'File that holds it' }),
  dir: str('QUERN_AUDIT_DIR', { doc: "Folder of the ledger, its view and the service's own outbox" }),
  keyDir: str('QUERN_AUDIT_KEY_DIR', {
    doc: 'Folder of the vault with its key: who a pseudonym is, and the keys of users; apart from QUERN_AUDIT_DIR and its backups',
  }),
  signingKeyDir: path('QUERN_AUDIT_SIGNING_KEY_DIR', {
    doc: 'Folder of the signing key, which nobody but this service should be able to read. Absent: QUERN_AUDIT_KEY_DIR',
    default: null,
  }),
  contentDir: path('QUERN_AUDIT_CONTENT_DIR', {
    doc: 'Folder of the prompts and answers that QUERN_AUDIT_CONTENT_POLICY keeps. Absent: none are kept or shown',
    default: null,
  }),
  origin: str('QUERN_AUDIT_ORIGIN', {
    doc: 'Name of this log in its checkpoints, such as audit.example.com; it never changes',
    default: 'quern.local/audit',
    pattern: /^[^\s+]{1,256}$/u,
    expected: 'text without blanks and "+"',
  }),
  witnesses: list('QUERN_AUDIT_WITNESSES', {
    doc: 'Files, best on other machines, to which every checkpoint is appended',
    default: [],
  }),
  retentionDays: int('QUERN_AUDIT_RETENTION_DAYS', {
    doc: 'Days after which records go from the ledger; their hashes and the checkpoints stay, so that proofs stay valid',
    default: 90,
    min: 1,
    max: 36_500,
  }),
  streamBytes: bytes('QUERN_AUDIT_STREAM_MAX_BYTES', {
    doc: 'Size of the stream AUDIT when it is made',
    default: 4 * GIB,
    min: 1024 * 1024,
  }),
  metricsListen: metricsListenField('QUERN_AUDIT_METRICS_LISTEN', 9155),
  drainGraceMs: duration_ms('QUERN_AUDIT_DRAIN_GRACE', {
    doc: 'How long running calls may go on after SIGTERM',
    default: DRAIN_GRACE_MS,
    min: 0,
  }),
  ...internalEnv,
  ...operatorEnv,
  ...tracingEnv,
  logLevel: oneOf('QUERN_LOG_LEVEL', LOG_LEVELS, { doc: 'Least level that is logged', default: 'info' }),
};

export type AuditConfig = {
  listen: string;
  /** Null: none. */
  coverage: CoverageSocket | null;
  nats: string;
  dir: string;
  keyDir: string;
  /** Null: keyDir. */
  signingKeyDir: string | null;
  /** Null: no prompts are shown. */
  contentDir: string | null;
  origin: string;
  witnesses: readonly string[];
  retentionDays: number;
  streamBytes: number;
  metricsListen: MetricsAddress | null;
  drainGraceMs: number;
  internal: InternalAccess;
  /** Null: only a call over a unix socket that needs no token may look into the log. */
  operatorToken: string | null;
  logLevel: (typeof LOG_LEVELS)[number];
};

/** Throws INVALID_ARGUMENT, reason CONFIG_INVALID, naming each variable that is wrong. */
export function readConfig(env: NodeJS.ProcessEnv): AuditConfig & { tracing: TracingConfig } {
  const values = readEnv(env, auditEnv, {
    check: (given) => [
      ...internalProblems(given, [{ name: auditEnv.listen.name, address: given.listen }]),
      ...coverageProblems(given.coverageListen, given.coverageGroup),
      ...operatorProblems(given, given.internalToken ?? given.internalTokenFile?.secret ?? null),
    ],
  });
  const {
    metricsListen,
    dir,
    keyDir,
    natsFile,
    operatorToken,
    operatorTokenFile,
    coverageListen,
    coverageGroup: group,
    ...rest
  } = takeTracing(takeInternal(values));
  const nats = natsFile?.secret ?? rest.nats;
  const path = coverageListen === null ? null : socketPath(coverageListen);
  return {
    ...rest,
    nats,
    coverage: path === null || group === null ? null : { path, group },
    operatorToken: operatorTokenOf({ operatorToken, operatorTokenFile }),
    dir: resolve(dir),
    keyDir: resolve(keyDir),
    metricsListen: parseMetricsListen(metricsListen),
  };
}
