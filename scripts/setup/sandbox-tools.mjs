// What the sandbox of the tool service and its tests need from the distribution: bubblewrap, which makes sandboxes, and strace,
// which sees in tests that nothing starts outside of one. Small packages without services of their own, so they are installed.
import { withLock } from './lock.mjs';
import { findOnPath } from './paths.mjs';
import { aptAdvice } from './prerequisites.mjs';
import { mustRun, run, SetupError, timed } from './steps.mjs';

/** Package -> the program that it brings. */
const programs = { bubblewrap: 'bwrap', strace: 'strace' };

const missing = (packages) => packages.filter((name) => findOnPath(programs[name]) === null);

/** Installs those that are not there. Throws a SetupError when they cannot be had. */
async function installPackages(packages) {
  if (missing(packages).length === 0) return;
  await withLock('sandbox tools', async () => {
    const wanted = missing(packages);
    if (wanted.length === 0) return;
    const advice = aptAdvice(wanted.join(' '));
    if (!findOnPath('apt-get')) throw new SetupError(`There is no apt here. Install ${wanted.join(' and ')}.`);
    if (process.getuid?.() !== 0) throw new SetupError(`Only root may install packages. ${advice}`);
    await timed(wanted.join(' and '), 'installed', () => install(wanted, advice));
  });
}

async function install(packages, advice) {
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, timeoutMs: 5 * 60_000 };
  const args = ['install', '-y', '--no-install-recommends', ...packages];
  const { code } = await run('apt-get', args, options);
  if (code !== 0) {
    await mustRun('Reading package lists', 'apt-get', ['update'], { ...options, advice });
    await mustRun(`Installing ${packages.join(' and ')}`, 'apt-get', args, { ...options, advice });
  }
  const absent = missing(packages);
  if (absent.length > 0) throw new SetupError(`apt-get installed ${absent.join(' and ')}, but PATH does not show it.`);
}

/** For `npm start`. */
export const installBubblewrap = () => installPackages(['bubblewrap']);

/** For `npm test`. */
export const installSandboxTools = () => installPackages(['bubblewrap', 'strace']);
