// CMake and Ninja: the system's when new enough, else from PyPI in a virtual environment under the cache folder.
import { join } from 'node:path';
import { buildTools, compareVersions, minimum } from '../versions.mjs';
import { withLock } from './lock.mjs';
import { cacheDir, findOnPath, isExecutable } from './paths.mjs';
import { aptAdvice, findPython } from './prerequisites.mjs';
import { mustRun, readStamp, run, timed, writeStamp } from './steps.mjs';

/** { cmake, ninja }: paths of tools that are new enough, installed from PyPI if need be. */
export async function findBuildTools() {
  const cmake = await findNewEnough('cmake', minimum.cmake);
  const ninja = await findNewEnough('ninja', minimum.ninja);
  if (cmake && ninja) return { cmake, ninja };
  const venv = await installBuildTools();
  return { cmake: cmake ?? join(venv, 'bin', 'cmake'), ninja: ninja ?? join(venv, 'bin', 'ninja') };
}

async function findNewEnough(name, atLeast) {
  const path = findOnPath(name);
  if (!path) return null;
  const { output } = await run(path, ['--version']);
  const version = /\d+(\.\d+)+/.exec(output)?.[0];
  return version && compareVersions(version, atLeast) >= 0 ? path : null;
}

async function installBuildTools() {
  const venv = join(cacheDir, 'tools');
  const stampPath = join(venv, '.quern-stamp.json');
  const isCurrent = () =>
    JSON.stringify(readStamp(stampPath)) === JSON.stringify(buildTools) && isExecutable(join(venv, 'bin', 'cmake'));
  if (isCurrent()) return venv;
  await withLock('build tools', async () => {
    if (isCurrent()) return;
    await timed('build tools', `CMake ${buildTools.cmake} and Ninja ${buildTools.ninja} installed`, () =>
      installWheels(venv, buildTools, { purpose: 'Getting CMake and Ninja', advice: aptAdvice('cmake ninja-build') }),
    );
    writeStamp(stampPath, buildTools);
  });
  return venv;
}

/** Installs exactly these PyPI wheels, without dependencies, into a fresh virtual environment. */
export async function installWheels(venv, pins, { purpose, advice }) {
  const python = await findPython(purpose);
  await mustRun(purpose, python, ['-m', 'venv', '--clear', venv]);
  const wheels = Object.entries(pins).map(([name, version]) => `${name}==${version}`);
  const args = ['install', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:', ...wheels];
  await mustRun(purpose, join(venv, 'bin', 'pip'), args, { advice });
}
