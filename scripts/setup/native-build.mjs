// Builds engine-native with CMake and Ninja. A preset is a build folder with its own flags; sources are shared.
import { readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { cudaArchitectures } from '../versions.mjs';
import { findBuildTools } from './build-tools.mjs';
import { findNvcc } from './cuda-wheels.mjs';
import { withLock } from './lock.mjs';
import { hashFiles, isExecutable, listFiles, nativeDir, root } from './paths.mjs';
import { checkCompiler, noteDistribution } from './prerequisites.mjs';
import { mustRun, readStamp, SetupError, timed, writeStamp } from './steps.mjs';

/** What `npm start` needs, what `npm run build:native` builds, and what `npm test` needs besides. */
export const startTargets = ['engine_addon', 'spawn_addon'];
const releaseTargets = [...startTargets, 'engine_cli', 'engine_bench'];
export const testTargets = [...releaseTargets, 'engine_tests', 'make_checkpoint'];

/** The presets of engine-native/CMakePresets.json that scripts build: folder, further arguments, default targets. */
export const presets = {
  release: { folder: 'build', configure: () => [], targets: releaseTargets },
  asan: { folder: 'build-asan', configure: () => [], targets: ['engine_tests'] },
  tsan: {
    folder: 'build-tsan',
    // Only the files with tests that the tsan suite runs, and what these need.
    configure: () => ['-DQUERN_TEST_GLOB=backend_*.cc;cpu_*.cc;engine_*.cc;parity_*.cc;reference_*.cc'],
    targets: ['engine_tests'],
  },
  // Only what is CUDA's is compiled; the rest is linked from release, which must be built before.
  cuda: { folder: 'build-cuda', configure: configureCuda, targets: ['engine_cli'] },
};

function configureCuda() {
  const nvcc = findNvcc();
  if (!nvcc) {
    throw new SetupError(
      'The CUDA compiler is not installed. `node scripts/bootstrap.mjs test` installs it (104 MB); ' +
        'QUERN_TEST_SKIP=cuda goes on without.',
    );
  }
  return [
    `-DCMAKE_CUDA_COMPILER=${nvcc}`,
    `-DCMAKE_CUDA_ARCHITECTURES=${cudaArchitectures}`,
    `-DQUERN_LIBRARIES_FROM=${buildDir('release')}`,
  ];
}

/** The folder that a preset builds in; binaries lie directly in it. */
export const buildDir = (preset) => join(nativeDir, presets[preset].folder);

/**
 * Builds `targets` of a preset. Does nothing when the sources, flags and compiler choice are those of the last
 * successful build; returns whether it built. `verbose` shows the compiler's output as it comes.
 */
export async function buildNative({ preset = 'release', targets = presets[preset].targets, force, verbose } = {}) {
  const stampPath = join(buildDir(preset), '.quern-stamp.json');
  const args = presets[preset].configure();
  const name = preset === 'release' ? 'native engine' : `native engine (${preset})`;
  if (!force && isCurrent(stampPath, sourceHash(args), targets, preset)) return false;
  return withLock(`native ${preset}`, async () => {
    const source = sourceHash(args); // again: another build may have ended while this one waited
    if (!force && isCurrent(stampPath, source, targets, preset)) return false;
    if (preset === 'cuda') await buildNative({ targets: ['engine_cli'] });
    noteDistribution();
    await checkCompiler();
    const tools = await findBuildTools();
    const build = (tell) => configureAndBuild({ name, preset, args, targets, tools, verbose, tell });
    await timed(name, 'built', build, {
      expect: 'compiling; a minute or a few',
    });
    const made = readStamp(stampPath);
    const before = made?.source === source ? made.targets : [];
    writeStamp(stampPath, { source, targets: [...new Set([...before, ...targets])] });
    return true;
  });
}

async function configureAndBuild({ name, preset, args, targets, tools, verbose, tell }) {
  const dir = buildDir(preset);
  const configure = ['--preset', preset, `-DCMAKE_MAKE_PROGRAM=${tools.ninja}`, ...args];
  await mustRun(name, tools.cmake, configure, { cwd: nativeDir, inherit: verbose });
  const build = ['-C', dir, `-j${buildParallelism()}`, ...targets];
  const env = { ...process.env, NINJA_STATUS: '[%f/%t] ' };
  const onOutput = (text) => {
    const [, done, all] = [...text.matchAll(/^\[(\d+)\/(\d+)\] /gm)].at(-1) ?? [];
    if (all !== undefined) tell(`${done} of ${all}`);
  };
  await mustRun(name, tools.ninja, build, { inherit: verbose, env, onOutput });
}

/** As many compilers as cores, but no more than one per 1.5 GiB of memory. */
export function buildParallelism() {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 1.5 / 2 ** 30)));
}

const isNativeSource = (name, isDirectory) => isDirectory || /\.(cc|cu|cuh|h)$/.test(name);

/** A hash of everything that decides the outcome of a build: sources, headers from npm, flags, compiler. */
function sourceHash(args) {
  const keep = (name, isDirectory) => !(isDirectory && name.startsWith('build')) && !name.endsWith('.md');
  const files = [...listFiles(nativeDir, keep), ...listFiles(join(root, 'test/native'), isNativeSource)];
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const packages = ['node-addon-api', 'node-api-headers', `node-linux-${process.arch}`]; // the last one has libuv's
  const headers = packages.map((name) => lock[`node_modules/${name}`]?.version);
  const { CXX = '', CXXFLAGS = '', CFLAGS = '', LDFLAGS = '' } = process.env;
  return hashFiles(files, ...args, ...headers, CXX, CXXFLAGS, CFLAGS, LDFLAGS, process.arch);
}

function isCurrent(stampPath, source, targets, preset) {
  const made = readStamp(stampPath);
  if (made?.source !== source) return false;
  return targets.every((target) => made.targets.includes(target) && isExecutable(outputPath(preset, target)));
}

/** Where a target's file lies. */
export function outputPath(preset, target) {
  return join(buildDir(preset), target.endsWith('_addon') ? `${target}.node` : target);
}
