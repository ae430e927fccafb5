/** How a one-machine mesh runs tools: where the service listens and keeps its files, and what it is told. */
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import { type AuditPlan, NATS_NOWHERE } from './audit-plan.ts';
import { type CheckoutView, viewFor } from './checkout-view.ts';

/** The account that the service becomes when root starts it, if QUERN_TOOLS_UID names no other. */
const UNPRIVILEGED_ID = 65_532;

export type ToolsPlan = {
  /** Of the journal, the workspaces and the outbox. */
  dir: string;
  /** Loopback port of GET /metrics. */
  metricsPort: number;
  /** Where the compiled form of the service's modules is kept: without it a process holds the compiler too. */
  compileCache: string;
  /** Null or absent: the service reads Quern's own files where they are. */
  view?: CheckoutView | null;
};

/** Small, since every sandbox is made by a fork of it: a young generation of 1 MiB and one thread of V8's own. */
export const TOOLS_NODE_OPTIONS: readonly string[] = ['--max-semi-space-size=1', '--v8-pool-size=1'];

/**
 * What glibc does with memory: blocks of 32 KiB and more, which is what output comes in, are pages of their own, and what is freed goes
 * back to the system. By itself it keeps 20 MiB after some calls with much output.
 */
export const TOOLS_MALLOC_ENV: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '32768',
  MALLOC_TRIM_THRESHOLD_: '131072',
};

const isRoot = (): boolean => process.getuid?.() === 0;

/**
 * Where the service keeps its files. Started by root it becomes an account that cannot enter root's own folders, so that then it has
 * one of the system's, for each state folder its own.
 */
export function toolsFolder(stateDir: string, named: string | undefined, root = isRoot()): string {
  if (named) return named;
  const hash = createHash('sha256').update(stateDir).digest('hex').slice(0, 12);
  return root ? join('/var/lib/quern', `tools-${hash}`) : join(stateDir, 'tools');
}

/** Where its compiled modules are kept: below root's own folders its account could not read them, and its threads start as that. */
export function toolsCompileCache(cacheDir: string, root = isRoot()): string {
  return join(root ? '/var/lib/quern' : cacheDir, 'node-compile');
}

/** The folder of its socket: the mesh's, or beside it a folder of the account that the service becomes. */
export function toolsSocketFolder(runtimeDir: string, root = isRoot()): string {
  return root ? join('/tmp', `${basename(runtimeDir)}-tools`) : runtimeDir;
}

/** How the account that the service becomes sees the checkout. `uid`: QUERN_TOOLS_UID, in which the service finds mistakes itself. */
export async function toolsView(
  checkout: { root: string; node: string },
  uid: string | undefined,
  root = isRoot(),
): Promise<CheckoutView | null> {
  const account = Number(uid || UNPRIVILEGED_ID);
  return root && Number.isInteger(account) && account > 0 ? viewFor(account, checkout) : null;
}

/** Where the service asks what the audit log covers. */
export type CoverageAccess = { address: string; group: number };

/**
 * The audit service's socket lies where only root may go: under root it has a second one, which answers the account that the tool
 * service becomes what is covered, and nothing else. Null: the tool service stays who it is, or its account is a mistake.
 */
export function coverageAccess(
  { dir }: Pick<ToolsPlan, 'dir'>,
  uid: string | undefined,
  root = isRoot(),
): CoverageAccess | null {
  const group = Number(uid || UNPRIVILEGED_ID); // its only one, of the same number
  if (!root || !Number.isInteger(group) || group <= 0) return null;
  const hash = createHash('sha256').update(dir).digest('hex').slice(0, 12);
  return { address: `unix:///var/lib/quern/coverage-${hash}/audit.sock`, group };
}

/** What the service is told. `audit`: of the audit service, or of its second socket. */
export function toolsServiceEnv(
  { dir, metricsPort, compileCache }: ToolsPlan,
  audit: AuditPlan,
  addresses: { own: string; audit: string },
): Record<string, string | undefined> {
  return {
    QUERN_TOOLS_LISTEN: addresses.own,
    QUERN_TOOLS_DIR: dir,
    QUERN_TOOLS_METRICS_LISTEN: `127.0.0.1:${metricsPort}`,
    NODE_COMPILE_CACHE: compileCache,
    ...TOOLS_MALLOC_ENV,
    ...(audit.kind !== 'off' && {
      QUERN_AUDIT_KEY_DIR: audit.folders.keys,
      QUERN_NATS_URL: audit.kind === 'on' ? audit.urls.tools : NATS_NOWHERE,
      QUERN_AUDIT_ADDRESS: audit.kind === 'on' ? addresses.audit : undefined,
    }),
  };
}
