// Jaeger v2: the one on PATH, else built through the Go module proxy. No registry has the binary, and `go install` refuses
// the module for its replace directive, so a copy of it is built. Ten to fifteen minutes and 2 GB of build cache: by hand, once.
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { jaegerModule } from '../versions.mjs';
import { withLock } from './lock.mjs';
import { findGo } from './nats-server.mjs';
import { findBuilt, findOnPath, programsDir } from './paths.mjs';
import { mustRun, run, SetupError, timed } from './steps.mjs';

const folder = `jaeger-${jaegerModule}`;
const binDir = join(programsDir, folder);

/** The path of a Jaeger, or null. */
export function findJaeger() {
  return findOnPath('jaeger') ?? findBuilt(folder, 'jaeger');
}

/** The folder of the module's source, downloaded. */
async function downloadModule(go, env) {
  const { code, output } = await run(
    go,
    ['mod', 'download', '-json', `github.com/jaegertracing/jaeger@v${jaegerModule}`],
    {
      env,
    },
  );
  const dir = code === 0 ? JSON.parse(output.slice(output.indexOf('{'), output.lastIndexOf('}') + 1)).Dir : null;
  if (!dir)
    throw new SetupError(
      `Jaeger's source cannot be had: ${output.slice(0, 500)}\nThe Go module proxy must be reachable.`,
    );
  return dir;
}

/** Builds Jaeger if there is none. Throws a SetupError when it cannot be had. */
export async function installJaeger() {
  if (findJaeger()) return;
  const expect = 'building it from source; once, and usually 10 to 15 minutes on two cores';
  const install = async () => {
    if (findJaeger()) return;
    await timed('Jaeger', `${jaegerModule} built`, build, { expect });
  };
  await withLock('jaeger', install, { dir: programsDir });
}

async function build() {
  const go = await findGo();
  const env = { ...process.env, CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOFLAGS: '-modcacherw' };
  const source = join(binDir, 'src');
  rmSync(source, { recursive: true, force: true });
  mkdirSync(binDir, { recursive: true });
  cpSync(await downloadModule(go, env), source, { recursive: true });
  await mustRun('Making the copy writable', 'chmod', ['-R', 'u+w', source]);
  // One package at a time: the linker alone takes 2 GB.
  const args = ['-n', '19', go, 'build', '-p', '1', '-ldflags', '-s -w', '-o', join(binDir, 'jaeger'), './cmd/jaeger'];
  await mustRun('Building Jaeger', 'nice', args, { cwd: source, env });
  rmSync(source, { recursive: true, force: true });
}
