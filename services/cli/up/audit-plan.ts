/** How a one-machine mesh keeps its audit log: which NATS, which folders, or why there is none. */
import { join } from 'node:path';
import { parseNatsAddress } from '#kit/audit/nats-address.ts';
import type { ProgramPlaces } from './built-programs.ts';
import { endsWithUs, findNatsServer, GET_NATS, type NatsServer, prepareNats } from './nats-server.ts';
import { findFreePort } from './ports.ts';
import type { PartRow } from './reporter.ts';

const NATS_PORT = 4222;
/** Where nobody but root could listen: records are given to no server that happens to have the customary port. */
export const NATS_NOWHERE = 'nats://127.0.0.1:1';

/** Of the ledger, the keys, the gateway's outbox and kept prompts; all survive a restart, and none lies inside another. */
export type AuditFolders = { ledger: string; keys: string; outbox: string; content: string };

/** A nats-server of our own: `words` is its command line. */
export type OwnNats = NatsServer & { port: number; words: string[]; pidFile: string };

export type AuditPlan =
  | { kind: 'off' }
  /** Records wait in the gateway's outbox, for `problem`. */
  | { kind: 'outbox'; folders: AuditFolders; problem: string }
  /** `urls` hold credentials; `shown` does not. `own` null: a server that was there. */
  | {
      kind: 'on';
      folders: AuditFolders;
      own: OwnNats | null;
      urls: { gateway: string; audit: string; tools: string };
      shown: string;
      metricsPort: number;
    };

export type AuditSettings = {
  /** --no-audit. */
  off: boolean;
  /** An existing server's address. */
  nats: string | undefined;
  /** Loopback port of the audit service's GET /metrics. */
  metricsPort: number;
  stateDir: string;
  folders: AuditFolders;
  /** Where a nats-server may be. */
  places: ProgramPlaces;
};

/** Finds a server, chooses its port and writes its configuration. Throws INVALID_ARGUMENT for a malformed address. */
export async function planAudit(settings: AuditSettings): Promise<AuditPlan> {
  const { off, nats, folders, stateDir, metricsPort } = settings;
  if (off) return { kind: 'off' };
  if (nats !== undefined) {
    const { shown } = parseNatsAddress(nats);
    return { kind: 'on', folders, own: null, urls: { gateway: nats, audit: nats, tools: nats }, shown, metricsPort };
  }
  const [found, port, prefix] = await Promise.all([
    findNatsServer(settings.places),
    findFreePort(NATS_PORT, []),
    endsWithUs(),
  ]);
  if (!found.ok) return { kind: 'outbox', folders, problem: found.problem };
  const dir = join(stateDir, 'nats');
  const { configFile, passwords } = prepareNats(dir, port);
  const url = (user: 'gateway' | 'audit' | 'tools'): string => `nats://${user}:${passwords[user]}@127.0.0.1:${port}`;
  const own = {
    ...found.server,
    port,
    words: [...prefix, found.server.path, '-c', configFile],
    pidFile: join(dir, 'nats-server.pid'),
  };
  const urls = { gateway: url('gateway'), audit: url('audit'), tools: url('tools') };
  return { kind: 'on', folders, own, urls, shown: `nats://127.0.0.1:${port}`, metricsPort };
}

/** What the gateway is told. */
export function gatewayAuditEnv(plan: AuditPlan, address: string): Record<string, string | undefined> {
  if (plan.kind === 'off') return {};
  const { folders } = plan;
  return {
    QUERN_AUDIT_OUTBOX_DIR: folders.outbox,
    QUERN_AUDIT_KEY_DIR: folders.keys,
    QUERN_AUDIT_CONTENT_DIR: folders.content,
    QUERN_NATS_URL: plan.kind === 'on' ? plan.urls.gateway : NATS_NOWHERE,
    QUERN_AUDIT_ADDRESS: plan.kind === 'on' ? address : undefined,
  };
}

/** What the audit service is told. `coverage`: of its second socket. */
export function auditServiceEnv(
  { folders, urls, metricsPort }: Extract<AuditPlan, { kind: 'on' }>,
  address: string,
  coverage: { address: string; group: number } | null = null,
): Record<string, string> {
  return {
    QUERN_AUDIT_LISTEN: address,
    ...(coverage && {
      QUERN_AUDIT_COVERAGE_LISTEN: coverage.address,
      QUERN_AUDIT_COVERAGE_GROUP: String(coverage.group),
    }),
    QUERN_AUDIT_DIR: folders.ledger,
    QUERN_AUDIT_KEY_DIR: folders.keys,
    QUERN_AUDIT_CONTENT_DIR: folders.content,
    QUERN_NATS_URL: urls.audit,
    QUERN_AUDIT_METRICS_LISTEN: `127.0.0.1:${metricsPort}`,
  };
}

/** What opens the audit log to a reader: of the audit service alone. */
const OPERATOR: readonly string[] = ['QUERN_AUDIT_OPERATOR_TOKEN', 'QUERN_AUDIT_OPERATOR_TOKEN_FILE'];

/** The operator's settings as the audit service gets them. */
export function operatorEnv(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  return Object.fromEntries(OPERATOR.map((name) => [name, env[name]]));
}

/** Variables that mean something to the children only when the plan says so. */
const PLANNED: readonly string[] = [
  'QUERN_AUDIT_OUTBOX_DIR',
  'QUERN_AUDIT_KEY_DIR',
  'QUERN_AUDIT_ADDRESS',
  'QUERN_AUDIT_COVERAGE_LISTEN',
  'QUERN_AUDIT_COVERAGE_GROUP',
  'QUERN_NATS_URL',
  'QUERN_NATS_URL_FILE',
  'QUERN_AUDIT_CONTENT_DIR',
  ...OPERATOR,
];

/** The environment as the children get it: without what the plan says instead, and without what no log has a use for. */
export function inheritedEnv(env: NodeJS.ProcessEnv, { kind }: AuditPlan): NodeJS.ProcessEnv {
  const dropped = kind === 'off' ? [...PLANNED, 'QUERN_AUDIT_CONTENT_POLICY'] : PLANNED;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !dropped.includes(name)));
}

/** Rows of the table for what is not started here. */
export function auditRows(plan: AuditPlan): PartRow[] {
  const row = (name: string, where: string, what: string): PartRow => ({ name, pid: null, where, what });
  if (plan.kind === 'off') return [row('audit', '', 'off (--no-audit): requests are not recorded')];
  if (plan.kind === 'on') return plan.own ? [] : [row('nats-server', plan.shown, 'not started here')];
  const get = `"${GET_NATS}" builds one (about a minute), then start again`;
  return [
    row('nats-server', '', `${plan.problem}; ${get}`),
    row('audit', plan.folders.outbox, 'records wait in this outbox until there is a nats-server'),
  ];
}
