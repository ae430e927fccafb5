/** What `quern doctor` says of the sandbox: as a running tool service tested it, else what this machine seems to allow. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type McpServer, McpServerState, ToolServiceClient, type ToolsStatus } from '#gen/quern/tools/v1/tools.ts';
import { channelAccess } from '#kit/internal-access.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { readInternalAccess } from '../config.ts';
import { runningMeshes } from '../up/mesh-folder.ts';
import type { Finding } from './checks.ts';

type Places = {
  runtimeParents: string[];
  path: string;
  /** Whose mesh is meant. */
  stateDir: string;
  /** QUERN_TOOLS_ADDRESS. */
  toolsAddress: string | undefined;
  env: NodeJS.ProcessEnv;
};

const BWRAP_PLACES = ['/usr/bin/bwrap', '/bin/bwrap', '/usr/local/bin/bwrap'];
const VERSION_MIN = [0, 8] as const;
const INSTALL =
  'apt-get install bubblewrap (Debian 12, Ubuntu 24.04 or newer); until then tools that need a sandbox do not run';
const PROGRAM_TIMEOUT_MS = 5_000;
const ASK_TIMEOUT_MS = 2_000;
/** As the tool service does when root starts it. */
const UNPRIVILEGED_ID = 65_532;

/** Messages of bwrap, each with what makes it work. */
const REFUSALS: readonly (readonly [RegExp, string])[] = [
  [
    /setting up uid map: Permission denied/,
    'AppArmor forbids user namespaces: use the /usr/bin/bwrap of the system with its profile (apt-get install apparmor-profiles), ' +
      'or sysctl kernel.apparmor_restrict_unprivileged_userns=0',
  ],
  [
    /No permissions to create (?:a )?new namespace|Operation not permitted/i,
    'user namespaces are forbidden here: sysctl kernel.unprivileged_userns_clone=1; in a container allow clone and unshare ' +
      '(docker: --security-opt seccomp=unconfined, or a profile that allows them)',
  ],
  [/Can't mount proc/, 'the container hides parts of /proc: docker --security-opt systempaths=unconfined'],
];

/** Where the tool service of the mesh that is meant listens: never that of another mesh. `why`: there is none to ask. */
function findService({ runtimeParents, stateDir, toolsAddress }: Places): { address: string } | { why: string } {
  if (toolsAddress !== undefined) return { address: toolsAddress };
  const all = runningMeshes(runtimeParents);
  const own = all.find((mesh) => mesh.stateDir === stateDir);
  const address = own?.parts.find(({ kind }) => kind === 'tools')?.addresses[0];
  if (address !== undefined) return { address };
  if (own) return { why: `the mesh with pid ${own.pid} runs without tools` };
  const others = all.map((mesh) => `pid ${mesh.pid} with QUERN_STATE_DIR=${mesh.stateDir}`).join(', ');
  return { why: `no mesh with the state folder ${stateDir} runs${others === '' ? '' : `; others do: ${others}`}` };
}

const SERVER_VERDICTS: Readonly<Partial<Record<McpServerState, [Finding['verdict'], string]>>> = {
  [McpServerState.MCP_SERVER_STATE_ASKING]: ['optional', 'not answered yet'],
  [McpServerState.MCP_SERVER_STATE_CONNECTED]: ['ok', 'connected'],
  [McpServerState.MCP_SERVER_STATE_QUARANTINED]: ['optional', 'in quarantine'],
  [McpServerState.MCP_SERVER_STATE_FAILED]: ['optional', 'failed'],
};

function serverFinding({ name, state, tools, problems }: McpServer): Finding {
  const [verdict, word] = SERVER_VERDICTS[state] ?? ['optional', 'unknown'];
  const why = problems.length === 0 ? '' : `: ${problems.join('; ')}`;
  const found = `${word}, ${tools} tools${why}`;
  if (verdict === 'ok') return { name: `mcp ${name}`, verdict, found };
  const remedy = 'see "MCP servers" in docs/tools.md; the tool service asks it again by itself';
  return { name: `mcp ${name}`, verdict, found, remedy };
}

function settingsFindings({ problems, mcpServers }: ToolsStatus): Finding[] {
  const wrong = problems.map(({ file, message }): Finding => {
    const name = `tools ${file === '' ? 'pack folder' : file}`;
    return { name, verdict: 'optional', found: message, remedy: 'correct the file; it is read again by itself' };
  });
  return [...mcpServers.map(serverFinding), ...wrong];
}

/** Layers of a sandbox, as the service at this address saw them, its MCP servers and its files. Throws when it does not answer. */
async function askService(address: string, { env }: Places): Promise<Finding[]> {
  const client = openChannel(ToolServiceClient, { address, ...channelAccess(readInternalAccess(env)) });
  try {
    const request = { probeNow: false };
    const answer = await unary(client, 'getCapabilities', request, { timeoutMs: ASK_TIMEOUT_MS });
    const { tier, capabilities, status } = answer;
    const missing = capabilities.filter(({ available }) => !available);
    const what = tier === '' ? 'no sandbox' : `tier ${tier}, ${capabilities.length - missing.length} layers tested`;
    const found = `${what} (asked ${address})`;
    return [
      { name: 'sandbox', verdict: tier === '' ? 'optional' : 'ok', found },
      ...missing.map(({ name, detail, remedy }): Finding => {
        return { name: `sandbox ${name}`, verdict: 'optional', found: detail, ...(remedy !== '' && { remedy }) };
      }),
      ...(status ? settingsFindings(status) : []),
    ];
  } finally {
    client.close();
  }
}

function bubblewrap(path: string): { finding: Finding; file: string | null } {
  const name = 'bubblewrap';
  const file = [...path.split(':').map((folder) => join(folder, 'bwrap')), ...BWRAP_PLACES].find(existsSync);
  if (file === undefined) {
    return { finding: { name, verdict: 'optional', found: 'not installed', remedy: INSTALL }, file: null };
  }
  const said = spawnSync(file, ['--version'], { encoding: 'utf8', timeout: PROGRAM_TIMEOUT_MS, env: {} }).stdout ?? '';
  const [major = 0, minor = 0] = /(\d+)\.(\d+)/.exec(said)?.slice(1).map(Number) ?? [];
  const isNew = major > VERSION_MIN[0] || (major === VERSION_MIN[0] && minor >= VERSION_MIN[1]);
  const found = `${said.trim()} (${file})`;
  if (isNew) return { finding: { name, verdict: 'ok', found }, file };
  const remedy = `expected ${VERSION_MIN.join('.')} or newer: ${INSTALL}`;
  return { finding: { name, verdict: 'optional', found, remedy }, file: null };
}

/** Whether an unprivileged account may have namespaces of its own: by trying. */
function namespaces(file: string): Finding {
  const name = 'sandbox namespaces';
  const links = ['lib', 'lib64', 'bin'].flatMap((one) => ['--symlink', `usr/${one}`, `/${one}`]);
  const words = [
    '--unshare-user',
    '--unshare-all',
    '--ro-bind',
    '/usr',
    '/usr',
    ...links,
    '--proc',
    '/proc',
    '--dev',
    '/dev',
  ];
  const { status, stderr } = spawnSync(file, [...words, '--', '/usr/bin/true'], {
    encoding: 'utf8',
    timeout: PROGRAM_TIMEOUT_MS,
    env: {},
    cwd: '/',
    ...(process.getuid?.() === 0 && { uid: UNPRIVILEGED_ID, gid: UNPRIVILEGED_ID }),
  });
  if (status === 0) return { name, verdict: 'ok', found: 'a sandbox of an unprivileged account starts' };
  const said = (stderr ?? '').trim().split('\n').at(-1) || 'bwrap did not start';
  const remedy = REFUSALS.find(([pattern]) => pattern.test(said))?.[1];
  return {
    name,
    verdict: 'optional',
    found: said,
    remedy: remedy ?? 'without namespaces there is no sandbox, and no tool runs',
  };
}

/** Whether memory and processes of a sandbox can be limited together. */
function cgroups(): Finding {
  const name = 'sandbox cgroups';
  const isRoot = process.getuid?.() === 0;
  const own = /^0::(\/.*)$/m.exec(readText('/proc/self/cgroup'))?.[1];
  const unified = own === undefined ? null : join('/sys/fs/cgroup', own);
  const controllers = unified === null ? '' : readText(join(unified, 'cgroup.controllers'));
  if (/\bmemory\b/.test(controllers) && /\bpids\b/.test(controllers) && (isRoot || isWritable(unified!))) {
    return { name, verdict: 'ok', found: `cgroup v2, delegated at ${own}` };
  }
  if (isRoot && isWritable('/sys/fs/cgroup/memory') && isWritable('/sys/fs/cgroup/pids')) {
    return { name, verdict: 'ok', found: 'cgroup v1, writable' };
  }
  const remedy =
    'start the mesh in a delegated subtree: systemd-run --user --scope -p Delegate=yes npm start; or accept limits per process ' +
    'with QUERN_TOOLS_ALLOW_MISSING=cgroup';
  return { name, verdict: 'optional', found: 'no cgroup that this account may divide', remedy };
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export async function inspectSandbox(places: Places): Promise<Finding[]> {
  const service = findService(places);
  let why: string;
  if ('why' in service) why = service.why;
  else {
    try {
      return await askService(service.address, places);
    } catch (error) {
      why = `${service.address} does not answer: ${(error as Error).message}`;
    }
  }
  const remedy = 'start the mesh, or name its state folder (QUERN_STATE_DIR) or tool service (QUERN_TOOLS_ADDRESS)';
  const unasked: Finding = { name: 'tool service', verdict: 'optional', found: `not asked: ${why}`, remedy };
  const { finding, file } = bubblewrap(places.path);
  return [unasked, finding, ...(file === null ? [] : [namespaces(file)]), cgroups()];
}
