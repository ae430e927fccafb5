// promtool, which checks Prometheus rules: the one on PATH, else taken out of the distribution's package "prometheus" into the
// cache folder. Nothing is installed: the package would start a server. There is no packaged binary on npm or PyPI, and its
// Go module does not build by `go install`.
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { compareVersions, minimum } from '../versions.mjs';
import { withLock } from './lock.mjs';
import { cacheDir, findOnPath, isExecutable } from './paths.mjs';
import { aptAdvice } from './prerequisites.mjs';
import { mustRun, run, SetupError, timed } from './steps.mjs';

const folder = join(cacheDir, 'promtool');
const unpacked = join(folder, 'promtool');

/** The path of a promtool that is new enough, or null. */
export async function findPromtool() {
  const path = findOnPath('promtool');
  if (path && (await isNewEnough(path))) return path;
  return isExecutable(unpacked) ? unpacked : null;
}

async function isNewEnough(path) {
  const { code, output } = await run(path, ['--version']);
  const version = /version (\d+(\.\d+)+)/.exec(output)?.[1];
  return code === 0 && version !== undefined && compareVersions(version, minimum.promtool) >= 0;
}

/** Takes promtool out of the package if there is none. Throws a SetupError when it cannot be had. */
export async function installPromtool() {
  if (await findPromtool()) return;
  await withLock('promtool', async () => {
    if (await findPromtool()) return;
    await timed('promtool', 'taken out of the package "prometheus"', unpack);
  });
}

async function unpack() {
  const advice = `promtool comes with the package prometheus. ${aptAdvice('prometheus')}`;
  if (!findOnPath('apt-get') || !findOnPath('dpkg-deb')) throw new SetupError(`There is no apt here. ${advice}`);
  mkdirSync(folder, { recursive: true });
  const options = { cwd: folder, timeoutMs: 5 * 60_000 };
  // The system's package lists, else lists of our own: those can be had without being root.
  const { code } = await run('apt-get', ['download', 'prometheus'], options);
  if (code !== 0) {
    const own = [];
    for (const [key, name] of [
      ['Dir::State::Lists', 'lists'],
      ['Dir::Cache', 'packages'],
    ]) {
      mkdirSync(join(folder, name, 'partial'), { recursive: true });
      own.push('-o', `${key}=${join(folder, name)}`);
    }
    await mustRun('Reading package lists', 'apt-get', [...own, 'update'], { ...options, advice });
    await mustRun('Getting promtool', 'apt-get', [...own, 'download', 'prometheus'], { ...options, advice });
  }
  const name = readdirSync(folder).find((file) => /^prometheus_.*\.deb$/.test(file));
  if (!name) throw new SetupError(`apt-get download left no package in ${folder}. ${advice}`);
  const contents = join(folder, 'contents');
  await mustRun('Unpacking promtool', 'dpkg-deb', ['-x', join(folder, name), contents], { ...options, advice });
  const binary = join(contents, 'usr/bin/promtool');
  if (!(await isNewEnough(binary))) {
    throw new SetupError(
      `The promtool of this distribution is older than ${minimum.promtool}. Put a newer one on PATH.`,
    );
  }
  renameSync(binary, unpacked);
  for (const rest of readdirSync(folder)) if (rest !== 'promtool') rmSync(join(folder, rest), { recursive: true });
}
