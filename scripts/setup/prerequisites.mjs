// What has to be on the machine before anything can be installed, in sentences.
import { readFileSync } from 'node:fs';
import { compareVersions, minimum } from '../versions.mjs';
import { findOnPath } from './paths.mjs';
import { run, SetupError, say } from './steps.mjs';

/** How to get Debian packages; asked for, never installed unasked. */
export function aptAdvice(packages) {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  return `On Debian and Ubuntu: ${sudo}apt-get update && ${sudo}apt-get install -y ${packages}`;
}

/** Throws a SetupError when this machine cannot run Quern at all. Costs no time: reads, spawns nothing. */
export function checkPlatform() {
  if (compareVersions(process.versions.node, minimum.node) < 0) {
    throw new SetupError(
      `Quern needs Node >= 20 to start its scripts; this is ${process.version} (${process.execPath}). ` +
        'Install Node 20 or newer; the Node 24 that the services run on is then installed by npm.',
    );
  }
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    throw new SetupError(`Quern runs on Linux, x64 or arm64; this is ${process.platform} ${process.arch}.`);
  }
  if (!process.report.getReport().header.glibcVersionRuntime) {
    throw new SetupError('Quern needs a Linux with glibc (Debian >= 12, Ubuntu >= 24.04); this one has musl.');
  }
}

/** Says so when the distribution is not one that Quern is tested on; it may still work. */
export function noteDistribution() {
  const release = readOsRelease();
  const version = Number.parseFloat(release.VERSION_ID ?? '');
  const known =
    (release.ID === 'debian' && (!release.VERSION_ID || version >= minimum.debian)) ||
    (release.ID === 'ubuntu' && version >= Number.parseFloat(minimum.ubuntu));
  if (known) return;
  const name = release.PRETTY_NAME ?? 'an unknown distribution';
  say(
    `note: Quern is tested on Debian >= ${minimum.debian} and Ubuntu >= ${minimum.ubuntu}; this is ${name}, going on.`,
  );
}

function readOsRelease() {
  try {
    const lines = readFileSync('/etc/os-release', 'utf8').split('\n');
    return Object.fromEntries(
      lines.map((line) => line.split('=')).map(([key, value]) => [key, value?.replaceAll('"', '')]),
    );
  } catch {
    return {};
  }
}

/** Throws unless a C++20 compiler is there: $CXX when set, else g++. */
export async function checkCompiler() {
  const compiler = process.env.CXX || 'g++';
  const { code, output } = await run(compiler, ['-dumpfullversion', '-dumpversion']);
  if (code !== 0) {
    throw new SetupError(
      `The native engine needs g++ >= ${minimum.gcc}; \`${compiler}\` does not run. ${aptAdvice('g++')}`,
    );
  }
  if (process.env.CXX) return; // the user's choice; another compiler has other version numbers
  if (Number.parseInt(output, 10) < minimum.gcc) {
    throw new SetupError(
      `The native engine needs g++ >= ${minimum.gcc}; this one is ${output.trim()}. ${aptAdvice('g++-12')} and set CXX=g++-12.`,
    );
  }
}

/** The path of a Python 3 that can make virtual environments; throws when there is none. */
export async function findPython(purpose) {
  const python = findOnPath('python3');
  if (!python) throw new SetupError(`${purpose} needs Python 3. ${aptAdvice('python3 python3-venv')}`);
  const { code } = await run(python, ['-c', 'import venv, ensurepip']);
  if (code !== 0) throw new SetupError(`${purpose} needs Python's venv module. ${aptAdvice('python3-venv')}`);
  return python;
}
