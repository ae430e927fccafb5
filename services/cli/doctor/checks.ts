/** What `quern doctor` looks at. Each check says what it found and, when that is bad, what to do. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { cpus, freemem, loadavg, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';

export type Verdict = 'ok' | 'slow' | 'missing' | 'optional';
export type Finding = { name: string; verdict: Verdict; found: string; remedy?: string };

const GIB = 1024 ** 3;

/** Runs every check. `root` is the checkout. */
export function inspectMachine(root: string, env: NodeJS.ProcessEnv): Finding[] {
  return [
    nodeVersion(),
    instructionSet(),
    cores(),
    load(),
    memory(),
    disk(root),
    addon(root),
    model(root, env),
    gpu(),
    program('g++', { needed: true, remedy: 'apt-get install g++ (12 or newer)' }, env),
    program('python3', { needed: true, remedy: 'apt-get install python3-venv' }, env),
    program('cmake', { needed: false, remedy: 'nothing to do: set-up gets it from PyPI' }, env),
    program('ninja', { needed: false, remedy: 'nothing to do: set-up gets it from PyPI' }, env),
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

function instructionSet(): Finding {
  const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(readText('/proc/cpuinfo'))?.[1]?.split(' ') ?? []);
  const name = 'cpu';
  const model = cpus()[0]?.model.trim() ?? 'unknown';
  if (process.arch !== 'x64') return { name, verdict: 'slow', found: `${model} (${process.arch}): portable kernels` };
  if (flags.has('avx512_bf16') && flags.has('avx512_vnni'))
    return { name, verdict: 'ok', found: `${model}: AVX-512 with BF16 and VNNI` };
  if (flags.has('avx2') && flags.has('fma') && flags.has('f16c'))
    return { name, verdict: 'ok', found: `${model}: AVX2 and FMA` };
  return {
    name,
    verdict: 'slow',
    found: `${model}: neither AVX2 nor AVX-512; portable kernels`,
    remedy: 'use a CPU made after 2013, or expose AVX2 to the virtual machine',
  };
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
  return {
    name: 'cores',
    verdict: Math.min(cpus().length, quota ?? 1024) < 2 ? 'slow' : 'ok',
    found,
    remedy: 'two or more CPUs keep the engine and the services apart',
  };
}

function load(): Finding {
  const one = loadavg()[0] ?? 0;
  const found = `load average ${one.toFixed(2)} on ${cpus().length} CPUs`;
  if (one < cpus().length * 0.7) return { name: 'load', verdict: 'ok', found };
  return { name: 'load', verdict: 'slow', found, remedy: 'other programs use the CPU; decode slows by as much' };
}

function memory(): Finding {
  const found = `${(freemem() / GIB).toFixed(1)} of ${(totalmem() / GIB).toFixed(1)} GiB free`;
  if (freemem() > 2 * GIB) return { name: 'memory', verdict: 'ok', found };
  return {
    name: 'memory',
    verdict: 'slow',
    found,
    remedy: 'the bundled model needs about 1 GiB; a 1.5B model in bf16 about 4 GiB',
  };
}

function disk(root: string): Finding {
  const { bavail, bsize } = statfsSync(root);
  const free = (bavail * bsize) / GIB;
  const found = `${free.toFixed(1)} GiB free where Quern lies`;
  return free > 3
    ? { name: 'disk', verdict: 'ok', found }
    : { name: 'disk', verdict: 'slow', found, remedy: 'packages and build need about 2 GiB' };
}

function addon(root: string): Finding {
  const file = join(root, 'engine-native', 'build', 'engine_addon.node');
  if (existsSync(file))
    return { name: 'engine addon', verdict: 'ok', found: `built ${statSync(file).mtime.toISOString().slice(0, 10)}` };
  return { name: 'engine addon', verdict: 'missing', found: 'not built', remedy: 'npm run build:native' };
}

function model(root: string, env: NodeJS.ProcessEnv): Finding {
  const dir = env.QUERN_MODEL?.split(',')[0]?.replace(/^[^=]*=/, '') || join(root, 'models', 'quern-mini');
  const weights = existsSync(dir) ? readdirSync(dir).filter((file) => file.endsWith('.safetensors')) : [];
  if (weights.length > 0) {
    const size = weights.reduce((sum, file) => sum + statSync(join(dir, file)).size, 0);
    return { name: 'model', verdict: 'ok', found: `${dir} (${(size / 1e6).toFixed(0)} MB)` };
  }
  return {
    name: 'model',
    verdict: 'missing',
    found: `no *.safetensors in ${dir}`,
    remedy: 'name a Hugging Face folder: npm start -- --model DIR',
  };
}

function gpu(): Finding {
  if (!existsSync('/proc/driver/nvidia/version'))
    return { name: 'gpu', verdict: 'optional', found: 'no NVIDIA driver; the CPU backend serves' };
  return {
    name: 'gpu',
    verdict: 'ok',
    found: readText('/proc/driver/nvidia/version').split('\n')[0] ?? 'NVIDIA driver',
  };
}

function program(
  name: string,
  { needed, remedy }: { needed: boolean; remedy: string },
  env: NodeJS.ProcessEnv,
): Finding {
  const file = (env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(isExecutable);
  if (file === undefined) return { name, verdict: needed ? 'missing' : 'optional', found: 'not on PATH', remedy };
  const version = spawnSync(file, ['--version'], { encoding: 'utf8', timeout: 5000 }).stdout?.trim().split('\n')[0];
  return { name, verdict: 'ok', found: version || file };
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
