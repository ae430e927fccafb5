// What the service is made of on a real machine: the jail, the registry with its policy, the workspaces.
import { constants, existsSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { type ArgumentChecker, createArgumentChecker } from './argument-check.ts';
import { builtinTools } from './builtin/builtins.ts';
import { createPureEval } from './builtin/pure-eval.ts';
import type { ToolCatalog, ToolPacks, WorkspaceCopies, WorkspaceDoor } from './call-ports.ts';
import type { ToolsConfig } from './config.ts';
import { createEgress } from './egress/egress.ts';
import { startEgressProxy } from './egress/egress-proxy.ts';
import { proxiedJail } from './egress/proxied-jail.ts';
import { openJail } from './jail/jail.ts';
import { PROXY_SOCKET } from './jail/launch-options.ts';
import type { UnprivilegedStart } from './jail/privileges.ts';
import type { Jail } from './jail/sandbox.ts';
import { findToolchain, type Toolchain } from './jail/toolchain.ts';
import { freedFromServers, openPackServers, type PackServers } from './mcp/pack-servers.ts';
import { openPolicyFile } from './policy-file.ts';
import { createRegistry } from './registry.ts';
import { createCatalog } from './tool-catalog.ts';
import type { ToolsStatus } from './tools-status.ts';
import { openWorkspaces } from './workspaces.ts';

/** What runs tools, and where; tests give fakes. */
export type ToolParts = {
  jail: Jail;
  catalog: ToolCatalog;
  packs: ToolPacks;
  workspaces: WorkspaceDoor & WorkspaceCopies;
  status(): ToolsStatus;
  /** Called when nothing runs any more. */
  close(): Promise<void>;
};

/** Folders that the service writes to: they go to the account that it becomes. A pack folder elsewhere is its owner's. */
export function ownFolders({ folders }: Pick<ToolsConfig, 'folders'>): string[] {
  const { root, outbox, journal, workspaces, packs, jail } = folders;
  const inside = !relative(root, packs).startsWith('..');
  return [root, outbox, journal, workspaces, jail, ...(inside ? [packs] : [])];
}

async function checkFolder({ folders: { root } }: ToolsConfig, uid: number): Promise<void> {
  await access(root, constants.R_OK | constants.W_OK | constants.X_OK).catch((cause: unknown) => {
    const message =
      `QUERN_TOOLS_DIR: the account ${uid} cannot enter ${root}; put it below folders that everybody may enter, ` +
      'such as /var/lib/quern';
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'TOOLS_DIR_CLOSED' }, { cause });
  });
}

type Undo = () => Promise<void>;

/** The jail, and the way out of commands that want one where the operator allows any host. */
async function openSandbox(
  { folders, searchPath, allowMissing, probeEveryMs, http }: ToolsConfig,
  cgroups: UnprivilegedStart['cgroups'],
  toolchain: Toolchain,
  log: Log,
  undo: Undo[],
  signal: AbortSignal,
): Promise<Jail> {
  let proxySocket: string | null = null;
  let isUp = (): boolean => true; // without a proxy the jail says so itself
  if (http.allow.length > 0) {
    proxySocket = join(folders.root, 'egress.sock');
    const settings = { ...http, credentials: {}, testAddresses: [] };
    const onFailure = (error: unknown): void => log.error({ err: error }, 'commands have no network for now');
    const proxy = await startEgressProxy(proxySocket, settings, { onFailure });
    isUp = () => proxy.listening;
    undo.push(() => proxy.close());
  }
  const jail = await openJail(
    {
      log,
      stateDir: folders.jail,
      bwrap: searchPath,
      cgroups,
      allowMissingCgroup: allowMissing.includes('cgroup'),
      toolchain,
      proxySocket,
      probeIntervalMs: probeEveryMs,
    },
    { signal },
  );
  undo.push(() => jail.close());
  return proxiedJail(jail, { node: toolchain.interpreters.node, socket: PROXY_SOCKET, isUp });
}

async function openAll(
  config: ToolsConfig,
  { cgroups }: UnprivilegedStart,
  log: Log,
  undo: Undo[],
  signal: AbortSignal,
) {
  const { folders, policyFile, toolchain, http, testCommand } = config;
  const policy = await openPolicyFile({
    path: policyFile,
    onChange: (problem) => {
      if (problem) log.warn(problem, 'the policy has a mistake');
      else log.info({ file: policyFile }, 'the policy was read again');
    },
  });
  undo.push(() => policy.close());
  const tools = findToolchain({ root: toolchain });
  const jail = await openSandbox(config, cgroups, tools, log, undo, signal);
  const workspaces = await openWorkspaces({
    dir: folders.workspaces,
    onError: (error, message) => log.error({ err: error }, message),
  });
  undo.push(() => workspaces.close());
  const checker: ArgumentChecker = createArgumentChecker();
  undo.push(() => checker.close());
  const egress = createEgress({ ...http, credentials: {}, testAddresses: [] });
  undo.push(() => egress.close());
  const pureEval = createPureEval();
  undo.push(() => pureEval.close());
  let mcp: PackServers | null = null;
  const registry = await createRegistry({
    builtins: builtinTools({
      programs: { ...tools.interpreters, git: existsSync(join(toolchain, 'bin', 'git')) ? '/usr/bin/git' : null },
      pureEval,
      egress,
      testCommand: testCommand && { argv: testCommand, env: {}, limits: {} },
    }),
    packDir: folders.packs,
    checker,
    onProblems: (problems) => {
      for (const { file, message } of problems) log.warn({ file }, `tool pack: ${message}`);
    },
    onServers: (servers) => mcp?.follow(servers),
  });
  undo.push(() => registry.close());
  const pinsPath = join(folders.root, 'mcp-pins.json');
  const { interpreters } = tools;
  mcp = await openPackServers({ jail, interpreters, workspaces, checker, registry, pinsPath, log });
  undo.push(mcp.close);
  const catalog = createCatalog(registry, () => policy.current());
  const { servers } = mcp;
  const status = (): ToolsStatus => {
    const problems = [...registry.problems(), ...[policy.problem() ?? []].flat()];
    return { packDir: folders.packs, policyFile, problems, servers: servers.status() };
  };
  return { jail, catalog, packs: registry, workspaces: freedFromServers(workspaces, servers), status };
}

/** After root was given up. Throws one QuernError when something is not usable; a machine without a sandbox is none. */
export async function openToolParts(
  config: ToolsConfig,
  start: UnprivilegedStart,
  options: { log: Log; signal: AbortSignal },
): Promise<ToolParts> {
  const { log, signal } = options;
  const undo: Undo[] = [];
  const close = async (): Promise<void> => {
    for (const action of undo.splice(0).reverse()) {
      await action().catch((error: unknown) => log.error({ err: error }, 'closing failed'));
    }
  };
  try {
    await checkFolder(config, start.uid);
    return { ...(await openAll(config, start, log, undo, signal)), close };
  } catch (error) {
    await close();
    throw error;
  }
}
