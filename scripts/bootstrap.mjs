// node scripts/bootstrap.mjs start|test
// Makes a fresh checkout ready for `npm start` or `npm test`: npm packages, build tools, the native engine and, for
// tests, the CUDA compiler. Plain JavaScript for Node >= 20, because this is what installs Node 24. Says nothing when
// nothing is to do.
import { cudaSkipReason, hasCudaSources, installCudaWheels } from './setup/cuda-wheels.mjs';
import { buildNative, startTargets, testTargets } from './setup/native-build.mjs';
import { installPackages } from './setup/packages.mjs';
import { checkPlatform, noteDistribution } from './setup/prerequisites.mjs';
import { installPythonClients } from './setup/python-clients.mjs';
import { SetupError, say } from './setup/steps.mjs';
import { skippedSuites } from './testing/skip.mjs';

/** In order; each part does nothing when its result is already there. */
const parts = {
  start: [installPackages, () => buildNative({ targets: startTargets })],
  test: [installPackages, () => buildNative({ targets: testTargets }), installPythonClients, prepareCuda],
};

/** A machine without the wheels can still run every other suite: the cuda suite itself then fails and says why. */
async function prepareCuda() {
  if (!hasCudaSources()) return;
  const reason = cudaSkipReason(skippedSuites());
  if (reason !== null) return say(`CUDA compiler: not installed, ${reason}`);
  try {
    await installCudaWheels();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(
      `CUDA compiler: not installed, the cuda suite will fail (QUERN_TEST_SKIP=cuda leaves it out).\n${error.message}`,
    );
  }
}

async function main(purpose) {
  if (!Object.hasOwn(parts, purpose)) {
    throw new SetupError(`usage: node scripts/bootstrap.mjs start|test; got "${purpose ?? ''}".`);
  }
  checkPlatform();
  for (const part of parts[purpose]) await part();
}

try {
  await main(process.argv[2]);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`\n${error.message}\n`);
  noteDistribution();
  process.exitCode = 1;
}
