// npm packages: installed when node_modules does not hold what package-lock.json says.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { withLock } from './lock.mjs';
import { findOnPath, hashFiles, isExecutable, node24, nodeModules, root, systemPath } from './paths.mjs';
import { mustRun, readStamp, run, SetupError, timed, writeStamp } from './steps.mjs';

const lockPath = join(root, 'package-lock.json');
const stampPath = join(nodeModules, '.quern-stamp.json');

/** Binaries that come as optional packages, which npm may leave out without an error. */
const binaries = [node24, ...['node', 'tsc', 'buf', 'biome'].map((name) => join(nodeModules, '.bin', name))];

/** Makes node_modules match package-lock.json. Does nothing, and costs a hash, when it does. */
export async function installPackages() {
  const stamp = currentStamp();
  if (isCurrent(stamp)) return;
  await withLock('npm packages', async () => {
    if (isCurrent(stamp)) return;
    if (findMismatch() !== null) await timed('npm packages', 'installed', npmCi);
    const mismatch = findMismatch();
    if (mismatch !== null) {
      throw new SetupError(
        `npm ci ended well, but ${mismatch}. npm leaves optional packages out silently when it cannot download them: ` +
          'check the network, then run `npm ci --ignore-scripts` again.',
      );
    }
    await checkNode24();
    writeStamp(stampPath, stamp);
  });
}

const currentStamp = () => ({ lock: hashFiles([lockPath]), platform: `${process.platform}-${process.arch}` });

function isCurrent(stamp) {
  const made = readStamp(stampPath);
  return made?.lock === stamp.lock && made.platform === stamp.platform && binaries.every(isExecutable);
}

/** The first difference between package-lock.json and what is installed, as a clause, or null. */
function findMismatch() {
  const locked = JSON.parse(readFileSync(lockPath, 'utf8')).packages;
  const installed = readStamp(join(nodeModules, '.package-lock.json'))?.packages;
  if (!installed) return 'node_modules is not there';
  for (const [path, entry] of Object.entries(locked)) {
    if (path === '' || !fitsPlatform(entry)) continue;
    const version = installed[path]?.version;
    if (version !== entry.version) return `${path} is ${version ?? 'missing'}, not ${entry.version}`;
    if (!existsSync(join(root, path, 'package.json'))) return `${path} is listed but not there`;
  }
  const missing = binaries.find((path) => !isExecutable(path));
  return missing ? `${missing} is missing` : null;
}

/** Whether npm installs this lockfile entry on this machine (glibc is checked before). */
function fitsPlatform(entry) {
  const fits = (allowed, actual) => allowed === undefined || [allowed].flat().includes(actual);
  return fits(entry.os, process.platform) && fits(entry.cpu, process.arch) && fits(entry.libc, 'glibc');
}

async function npmCi() {
  const npm = findOnPath('npm');
  if (!npm) throw new SetupError('npm is not on PATH. Install Node >= 20 together with npm.');
  // npm removes node_modules first, and with it the Node that npm scripts find there: npm must run on the system's.
  const env = { ...process.env, PATH: systemPath() };
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  await mustRun('npm packages', npm, args, {
    env,
    advice: 'npm needs its registry or a warm cache for the first install.',
  });
}

async function checkNode24() {
  const { code, output } = await run(node24, ['--version']);
  const wanted = JSON.parse(readFileSync(lockPath, 'utf8')).packages[`node_modules/node-linux-${process.arch}`].version;
  if (code === 0 && output.trim() === `v${wanted}`) return;
  throw new SetupError(`${node24} should be Node v${wanted}; it says: ${output.trim() || `exit code ${code}`}.`);
}
