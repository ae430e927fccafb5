// The tool service's settings from the environment. The only file here that reads it.
import { join, resolve } from 'node:path';
import { parseVerifierKey } from '#kit/audit/checkpoint.ts';
import { parseNatsAddress } from '#kit/audit/nats-address.ts';
import { duration_ms, int, list, oneOf, path, readEnv, str, type ValuesOf } from '#kit/env.ts';
import { secretFile } from '#kit/env-files.ts';
import { type InternalAccess, internalEnv, internalProblems, takeInternal } from '#kit/internal-access.ts';
import { DRAIN_GRACE_MS } from '#kit/limits.ts';
import { type MetricsAddress, metricsListenField, parseMetricsListen } from '#kit/metrics-listen.ts';
import { type TracingConfig, takeTracing, tracingEnv } from '#kit/otlp/settings.ts';
import type { AdmissionBounds } from './admission.ts';
import {
  APPROVAL_WAIT_MS,
  CONCURRENT_PER_HOST,
  CONCURRENT_PER_TENANT,
  PROBE_EVERY_MS,
  QUEUE_CALLS_MAX,
} from './limits.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
/** Layers of the sandbox that an operator may do without. */
const LAYERS = /^cgroup$/;

export const toolsEnv = {
  listen: str('QUERN_TOOLS_LISTEN', {
    doc: 'Where the service listens, unix:///path, or host:port with a shared token or mutual TLS',
    default: '127.0.0.1:50054',
  }),
  dir: str('QUERN_TOOLS_DIR', {
    doc: 'Folder of the workspaces, the journal of calls and the audit outbox, below folders that QUERN_TOOLS_UID may enter',
  }),
  packDir: path('QUERN_TOOLS_PACK_DIR', {
    doc: 'Folder of tool packs (YAML, JSON), read again when it changes; RegisterTool writes there. Absent: packs in QUERN_TOOLS_DIR',
    default: null,
  }),
  policyFile: path('QUERN_TOOLS_POLICY_FILE', {
    doc: 'Policy of tools and tenants: allow, ask or deny, and limits. Absent: what each tool says, and no network',
    default: null,
  }),
  uid: int('QUERN_TOOLS_UID', {
    doc: 'Account that the service becomes when it is started as root; no tool ever runs as root. Absent: 65532, which owns nothing',
    default: null,
    min: 1,
    max: 4_294_967_294,
  }),
  allowMissing: list('QUERN_TOOLS_ALLOW_MISSING', {
    doc: 'Layers of the sandbox without which tools run all the same: cgroup (memory and processes are then limited one by one)',
    default: [],
    pattern: LAYERS,
    expected: 'layers: cgroup',
  }),
  toolchain: path('QUERN_TOOLS_TOOLCHAIN', {
    doc: 'Folder that tools see as /usr: their interpreters and libraries. In production a curated one',
    default: '/usr',
  }),
  searchPath: str('QUERN_TOOLS_BWRAP', {
    doc: 'bubblewrap: an absolute path, or folders to look in as in PATH',
    default: '/usr/bin:/bin:/usr/local/bin',
  }),
  httpAllow: list('QUERN_TOOLS_HTTP_ALLOW', {
    doc: 'Hosts that http_fetch and commands with a network may ask: names, or *.name for all below one. Absent: none',
    default: [],
    max: 256,
  }),
  httpPorts: list('QUERN_TOOLS_HTTP_PORTS', {
    doc: 'Ports that they may use',
    default: ['80', '443'],
    pattern: /^(?:[1-9]\d{0,4})$/,
    expected: 'port numbers',
  }),
  testCommand: str('QUERN_TOOLS_TEST_COMMAND', {
    doc: 'Command of run_tests as a JSON list, the first an absolute path inside the sandbox: ["/usr/bin/python3","-m","pytest"]',
    default: null,
  }),
  perHost: int('QUERN_TOOLS_CONCURRENT_PER_HOST', {
    doc: 'Tool calls that run at once',
    default: CONCURRENT_PER_HOST,
    min: 1,
    max: 1024,
  }),
  perTenant: int('QUERN_TOOLS_CONCURRENT_PER_TENANT', {
    doc: 'Of them of one tenant',
    default: CONCURRENT_PER_TENANT,
    min: 1,
    max: 1024,
  }),
  queue: int('QUERN_TOOLS_QUEUE', {
    doc: 'Tool calls that wait for a place; tenants take turns',
    default: QUEUE_CALLS_MAX,
    min: 0,
    max: 4096,
  }),
  approvalWaitMs: duration_ms('QUERN_TOOLS_APPROVAL_WAIT', {
    doc: 'How long a call waits for a person; no answer is a no',
    default: APPROVAL_WAIT_MS,
    min: 1_000,
    max: 3_600_000,
  }),
  probeEveryMs: duration_ms('QUERN_TOOLS_PROBE_EVERY', {
    doc: 'How often the sandbox is tested',
    default: PROBE_EVERY_MS,
    min: 1_000,
  }),
  metricsListen: metricsListenField('QUERN_TOOLS_METRICS_LISTEN', 9154),
  drainGraceMs: duration_ms('QUERN_TOOLS_DRAIN_GRACE', {
    doc: 'How long running tools may go on after SIGTERM; then they are ended',
    default: DRAIN_GRACE_MS,
    min: 0,
  }),
  auditKeyDir: path('QUERN_AUDIT_KEY_DIR', {
    doc: 'Folder of the vault with its key. Absent: no audit records of tool calls are kept',
    default: null,
  }),
  nats: str('QUERN_NATS_URL', {
    doc: 'NATS servers, separated by commas; credentials as in nats://user:password@host:4222',
    default: 'nats://127.0.0.1:4222',
  }),
  natsFile: secretFile('QUERN_NATS_URL_FILE', { doc: 'File that holds it' }),
  auditAddress: str('QUERN_AUDIT_ADDRESS', {
    doc: 'Address of the audit service, asked what a checkpoint covers. Absent: outbox segments stay',
    default: null,
  }),
  auditVerifierKey: str('QUERN_AUDIT_VERIFIER_KEY', {
    doc: 'Verifier key line by which checkpoints are checked. Absent: the first one seen is kept',
    default: null,
  }),
  ...internalEnv,
  ...tracingEnv,
  logLevel: oneOf('QUERN_LOG_LEVEL', LOG_LEVELS, { doc: 'Least level that is logged', default: 'info' }),
};

export type ToolFolders = {
  root: string;
  outbox: string;
  journal: string;
  workspaces: string;
  packs: string;
  jail: string;
};

export type ToolsConfig = {
  listen: string;
  folders: ToolFolders;
  policyFile: string | null;
  uid: number | null;
  allowMissing: readonly string[];
  toolchain: string;
  searchPath: string;
  http: { allow: readonly string[]; ports: readonly number[] };
  /** Null: run_tests cannot run. */
  testCommand: readonly string[] | null;
  bounds: AdmissionBounds;
  approvalWaitMs: number;
  probeEveryMs: number;
  metricsListen: MetricsAddress | null;
  drainGraceMs: number;
  /** Null: no audit records are kept. */
  audit: { keyDir: string; nats: string; service: string | null; verifierKey: string | null } | null;
  internal: InternalAccess;
  tracing: TracingConfig;
  logLevel: (typeof LOG_LEVELS)[number];
};

type Values = ValuesOf<typeof toolsEnv>;

/** Throws SyntaxError or TypeError for what is no list of words. */
function parseCommand(text: string): string[] {
  const words: unknown = JSON.parse(text);
  const isCommand = Array.isArray(words) && words.length > 0 && words.every((word) => typeof word === 'string');
  if (!isCommand || !String(words[0]).startsWith('/')) {
    throw new TypeError('expected a JSON list of words, the first an absolute path inside the sandbox');
  }
  return words as string[];
}

function problems(given: Partial<Values>): string[] {
  const wrong = (name: string, read: () => unknown): string[] => {
    try {
      read();
      return [];
    } catch (error) {
      return [`${name}: ${(error as Error).message}; correct it`];
    }
  };
  const { auditKeyDir, auditVerifierKey, auditAddress, perHost, perTenant } = given;
  const nats = given.natsFile?.secret ?? given.nats;
  const found = internalProblems(given, [
    { name: toolsEnv.listen.name, address: given.listen },
    ...(auditKeyDir && auditAddress ? [{ name: toolsEnv.auditAddress.name, address: auditAddress }] : []),
  ]);
  if (perHost !== undefined && perTenant !== undefined && perTenant > perHost) {
    found.push(
      `${toolsEnv.perTenant.name}: expected at most ${toolsEnv.perHost.name} (${perHost}), got ${perTenant}; lower it`,
    );
  }
  const { testCommand } = given;
  if (testCommand) found.push(...wrong(toolsEnv.testCommand.name, () => parseCommand(testCommand)));
  if (!auditKeyDir) return found;
  if (nats) found.push(...wrong(toolsEnv.nats.name, () => parseNatsAddress(nats)));
  if (auditVerifierKey) found.push(...wrong(toolsEnv.auditVerifierKey.name, () => parseVerifierKey(auditVerifierKey)));
  return found;
}

function foldersOf(dir: string, packDir: string | null): ToolFolders {
  const root = resolve(dir);
  return {
    root,
    outbox: join(root, 'outbox'),
    journal: join(root, 'journal'),
    workspaces: join(root, 'workspaces'),
    packs: packDir ?? join(root, 'packs'),
    jail: join(root, 'jail'),
  };
}

/** Throws INVALID_ARGUMENT, reason CONFIG_INVALID, naming each variable that is wrong. */
export function readConfig(env: NodeJS.ProcessEnv): ToolsConfig {
  const values = readEnv(env, toolsEnv, { check: problems });
  const { auditKeyDir, auditAddress, auditVerifierKey, nats, natsFile, perHost, perTenant, queue } = values;
  const audit =
    auditKeyDir === null
      ? null
      : {
          keyDir: auditKeyDir,
          nats: natsFile?.secret ?? nats,
          service: auditAddress,
          verifierKey: auditVerifierKey,
        };
  return {
    listen: values.listen,
    folders: foldersOf(values.dir, values.packDir),
    policyFile: values.policyFile,
    uid: values.uid,
    allowMissing: values.allowMissing,
    toolchain: values.toolchain,
    searchPath: values.searchPath,
    http: { allow: values.httpAllow, ports: values.httpPorts.map(Number) },
    testCommand: values.testCommand === null ? null : parseCommand(values.testCommand),
    bounds: { perHost, perTenant, queue },
    approvalWaitMs: values.approvalWaitMs,
    probeEveryMs: values.probeEveryMs,
    metricsListen: parseMetricsListen(values.metricsListen),
    drainGraceMs: values.drainGraceMs,
    audit,
    internal: takeInternal(values).internal,
    tracing: takeTracing(values).tracing,
    logLevel: values.logLevel,
  };
}
