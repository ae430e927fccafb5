// Programs out of the distribution's packages, for root: small packages without services of their own, so they are installed.
import { withLock } from './lock.mjs';
import { findOnPath } from './paths.mjs';
import { aptAdvice } from './prerequisites.mjs';
import { mustRun, run, SetupError, timed } from './steps.mjs';

/** Installs the packages whose program PATH does not show; `programs`: package -> program. Throws a SetupError when it cannot. */
export async function installPrograms(programs) {
  const missing = () => Object.keys(programs).filter((name) => findOnPath(programs[name]) === null);
  if (missing().length === 0) return;
  await withLock('apt packages', async () => {
    const wanted = missing();
    if (wanted.length === 0) return;
    const advice = aptAdvice(wanted.join(' '));
    if (!findOnPath('apt-get')) throw new SetupError(`There is no apt here. Install ${wanted.join(' and ')}.`);
    if (process.getuid?.() !== 0) throw new SetupError(`Only root may install packages. ${advice}`);
    await timed(wanted.join(' and '), 'installed', () => install(wanted, advice));
    const absent = missing();
    if (absent.length > 0)
      throw new SetupError(`apt-get installed ${absent.join(' and ')}, but PATH does not show it.`);
  });
}

async function install(packages, advice) {
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, timeoutMs: 5 * 60_000 };
  const args = ['install', '-y', '--no-install-recommends', ...packages];
  const { code } = await run('apt-get', args, options);
  if (code === 0) return;
  await mustRun('Reading package lists', 'apt-get', ['update'], { ...options, advice });
  await mustRun(`Installing ${packages.join(' and ')}`, 'apt-get', args, { ...options, advice });
}
