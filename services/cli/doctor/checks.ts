/** What `quern doctor` looks at. Each check says what it found and, when that is bad, what to do. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { cpus, freemem, loadavg, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import type { CliConfig } from '../config.ts';
import { isExecutable, type ProgramPlaces } from '../up/built-programs.ts';
import { findJaeger, GET_JAEGER } from '../up/jaeger.ts';
import { runningMeshes } from '../up/mesh-folder.ts';
import { findNatsServer, GET_NATS } from '../up/nats-server.ts';
import { describeInstructionSet } from './instruction-set.ts';
import { inspectSandbox } from './sandbox.ts';

export type Verdict = 'ok' | 'slow' | 'missing' | 'optional';
export type Finding = { name: string; verdict: Verdict; found: string; remedy?: string };

const GIB = 1024 ** 3;
const GXX_MAJOR_MIN = 12;
const BUILD_BYTES = 2 * GIB;
const PROGRAM_TIMEOUT_MS = 5_000;

type Settings = Pick<
  CliConfig,
  'root' | 'addon' | 'model' | 'runtimeParents' | 'keysFile' | 'places' | 'stateDir' | 'toolsAddress' | 'env'
>;

/** Runs every check. */
export async function inspectMachine(config: Settings): Promise<Finding[]> {
  const { root, places } = config;
  const { path } = places;
  const built = existsSync(config.addon);
  return [
    nodeVersion(),
    processor(),
    cores(),
    load(),
    memory(),
    gpu(),
    disk(root, built),
    addon(config.addon),
    model(root, config.model),
    compiler(path, built),
    buildTool('cmake', path),
    buildTool('ninja', path),
    python(path, built),
    await natsServer(places),
    jaeger(places),
    ...(await inspectSandbox({ ...config, path })),
    mesh(config.runtimeParents),
  ];
}

function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const good = major > 24 || (major === 24 && minor >= 12);
  const found = `Node ${process.versions.node}`;
  return good
    ? { name: 'node', verdict: 'ok', found }
    : { name: 'node', verdict: 'missing', found, remedy: 'run npm ci: it brings Node 24 as a package' };
}

function processor(): Finding {
  const flags = /^flags\s*:\s*(.*)$/m.exec(readText('/proc/cpuinfo'))?.[1]?.split(' ') ?? [];
  const { kernels, fast, remedy } = describeInstructionSet(process.arch, flags);
  const found = `${cpus()[0]?.model.trim() ?? 'unknown processor'}: ${kernels}`;
  return { name: 'cpu', verdict: fast ? 'ok' : 'slow', found, ...(remedy === undefined ? {} : { remedy }) };
}

/** CPUs this process may use, by its cgroup's quota; undefined = no quota. */
function cgroupCpus(): number | undefined {
  const v2 = /^(\d+) (\d+)/.exec(readText('/sys/fs/cgroup/cpu.max'));
  if (v2 !== null) return Number(v2[1]) / Number(v2[2]);
  const quota = Number(readText('/sys/fs/cgroup/cpu/cpu.cfs_quota_us'));
  const period = Number(readText('/sys/fs/cgroup/cpu/cpu.cfs_period_us'));
  return quota > 0 && period > 0 ? quota / period : undefined;
}

function cores(): Finding {
  const quota = cgroupCpus();
  const found = `${cpus().length} CPUs${quota === undefined ? '' : `, cgroup quota ${quota.toFixed(1)}`}`;
  if (Math.min(cpus().length, quota ?? cpus().length) >= 2) return { name: 'cores', verdict: 'ok', found };
  return { name: 'cores', verdict: 'slow', found, remedy: 'give it two: one for the engine, one for the services' };
}

function load(): Finding {
  const one = loadavg()[0] ?? 0;
  const found = `load average ${one.toFixed(2)} on ${cpus().length} CPUs`;
  if (one < cpus().length * 0.7) return { name: 'load', verdict: 'ok', found };
  return { name: 'load', verdict: 'slow', found, remedy: 'other programs use the CPU; decode slows by as much' };
}

function memory(): Finding {
  const limit = process.constrainedMemory();
  const limited = limit > 0 && limit < totalmem();
  const free = limited ? Math.min(freemem(), process.availableMemory()) : freemem();
  const total = limited ? limit : totalmem();
  const found = `${(free / GIB).toFixed(1)} of ${(total / GIB).toFixed(1)} GiB free${limited ? ' in this cgroup' : ''}`;
  if (free > 2 * GIB) return { name: 'memory', verdict: 'ok', found };
  const remedy = 'the bundled model needs about 1 GiB, a 1.5B model in bf16 about 4 GiB; end other programs';
  return { name: 'memory', verdict: 'slow', found, remedy };
}

function disk(root: string, built: boolean): Finding {
  const { bavail, bsize } = statfsSync(root);
  const free = bavail * bsize;
  const found = `${(free / GIB).toFixed(1)} GiB free where Quern lies`;
  return free > BUILD_BYTES || built
    ? { name: 'disk', verdict: 'ok', found }
    : { name: 'disk', verdict: 'missing', found, remedy: 'packages and build need about 2 GiB' };
}

function addon(file: string): Finding {
  const name = 'engine addon';
  if (existsSync(file))
    return { name, verdict: 'ok', found: `built ${statSync(file).mtime.toISOString().slice(0, 10)}` };
  return { name, verdict: 'missing', found: `no ${file}`, remedy: 'npm run build:native, or npm start, which does it' };
}

function model(root: string, setting: string | undefined): Finding {
  const dir =
    setting
      ?.split(',')[0]
      ?.replace(/^[^=]*=/, '')
      .trim() || join(root, 'models', 'quern-mini');
  const weights = existsSync(dir) ? readdirSync(dir).filter((file) => file.endsWith('.safetensors')) : [];
  if (weights.length > 0) {
    const size = weights.reduce((sum, file) => sum + statSync(join(dir, file)).size, 0);
    return { name: 'model', verdict: 'ok', found: `${dir} (${(size / 1e6).toFixed(0)} MB)` };
  }
  return {
    name: 'model',
    verdict: 'missing',
    found: `no *.safetensors in ${dir}`,
    remedy: 'name a Hugging Face folder: npm start -- --model DIR, or QUERN_MODEL',
  };
}

function gpu(): Finding {
  const driver = readText('/proc/driver/nvidia/version').split('\n')[0];
  if (driver) return { name: 'gpu', verdict: 'ok', found: driver };
  return { name: 'gpu', verdict: 'optional', found: 'no NVIDIA driver; the CPU backend serves' };
}

/** Needed only until the addon is built. */
function compiler(path: string, built: boolean): Finding {
  const remedy = `apt-get install g++ (${GXX_MAJOR_MIN} or newer); it builds the engine`;
  const found = program('g++', path);
  const absent = built ? 'optional' : 'missing';
  if (found.verdict !== 'ok') return { ...found, verdict: absent, remedy };
  const major = Number(/ (\d+)\.\d+(?:\.\d+)?(?: |$)/.exec(found.found)?.[1] ?? GXX_MAJOR_MIN);
  return major >= GXX_MAJOR_MIN ? found : { ...found, verdict: absent, remedy };
}

/** Set-up makes a virtual environment when CMake or Ninja are not on PATH. */
function python(path: string, built: boolean): Finding {
  const found = program('python3', path);
  const remedy = 'apt-get install python3-venv; it brings CMake and Ninja';
  const needed = !built && ['cmake', 'ninja'].some((name) => program(name, path).verdict !== 'ok');
  const absent = needed ? 'missing' : 'optional';
  if (found.verdict !== 'ok') return { ...found, verdict: absent, remedy };
  const file = find('python3', path) as string;
  const venv = spawnSync(file, ['-c', 'import venv, ensurepip'], { timeout: PROGRAM_TIMEOUT_MS }).status === 0;
  return venv ? found : { ...found, verdict: absent, found: `${found.found} without venv`, remedy };
}

/** Carries the audit log; without it records wait in the gateway's outbox. */
async function natsServer(places: ProgramPlaces): Promise<Finding> {
  const name = 'nats-server';
  const found = await findNatsServer(places);
  if (found.ok) return { name, verdict: 'ok', found: `${found.server.version} (${found.server.path})` };
  const remedy = `${GET_NATS} builds one (about a minute); until then audit records wait in the outbox`;
  return { name, verdict: 'optional', found: found.problem, remedy };
}

/** Shows traces; without it none are kept. */
function jaeger(places: ProgramPlaces): Finding {
  const name = 'jaeger';
  const found = findJaeger(places);
  if (found) {
    const ui = found.uiDir === null ? '; its own page, which may be without the UI' : `; UI in ${found.uiDir}`;
    return { name, verdict: 'ok', found: `${found.path}${ui}` };
  }
  const remedy = `${GET_JAEGER} builds one (15 minutes on two cores); until then no traces are kept`;
  return { name, verdict: 'optional', found: 'no jaeger on PATH or in the cache folders', remedy };
}

/** What runs now; other commands find it there. */
function mesh(parents: string[]): Finding {
  const running = runningMeshes(parents).filter(({ grpc }) => grpc !== '');
  const found = running.map(({ pid, grpc, http }) => `pid ${pid}, gRPC ${grpc}, HTTP ${http}`).join('; ');
  return { name: 'running mesh', verdict: running.length === 0 ? 'optional' : 'ok', found: found || 'none; npm start' };
}

/** Set-up can do without: it gets its own. */
function buildTool(name: string, path: string): Finding {
  const found = program(name, path);
  return found.verdict === 'ok' ? found : { ...found, found: 'not on PATH; set-up gets it from PyPI' };
}

function find(name: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

function program(name: string, path: string): Finding {
  const file = find(name, path);
  if (file === undefined) return { name, verdict: 'optional', found: 'not on PATH' };
  const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8', timeout: PROGRAM_TIMEOUT_MS });
  return { name, verdict: 'ok', found: stdout?.trim().split('\n')[0] || file };
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
