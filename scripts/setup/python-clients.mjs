// The Python that the client test uses: grpcio and its code generator in a virtual environment under the cache folder.
import { join } from 'node:path';
import { pythonClientWheels } from '../versions.mjs';
import { installWheels } from './build-tools.mjs';
import { withLock } from './lock.mjs';
import { cacheDir, isExecutable } from './paths.mjs';
import { readStamp, timed, writeStamp } from './steps.mjs';

const venv = join(cacheDir, 'python-clients');
const stampPath = join(venv, '.quern-stamp.json');

/** The Python with grpcio, or null when it is not installed. */
export function findPythonClients() {
  const python = join(venv, 'bin', 'python3');
  const isCurrent = JSON.stringify(readStamp(stampPath)) === JSON.stringify(pythonClientWheels);
  return isCurrent && isExecutable(python) ? python : null;
}

/** Installs the wheels if they are not there. Throws a SetupError when they cannot be had. */
export async function installPythonClients() {
  if (findPythonClients()) return;
  await withLock('Python clients', async () => {
    if (findPythonClients()) return;
    await timed('Python clients', `grpcio ${pythonClientWheels.grpcio} installed`, () =>
      installWheels(venv, pythonClientWheels, { purpose: 'Getting grpcio for the client test', advice: '' }),
    );
    writeStamp(stampPath, pythonClientWheels);
  });
}
