// node scripts/bootstrap.mjs start|test
// Makes a fresh checkout ready for `npm start` or `npm test`: npm packages, build tools, the native engine, nats-server,
// bubblewrap and, for tests, strace, Neovim, Chromium, promtool, a Python client and the CUDA compiler. Plain JavaScript for Node >= 20,
// because this is what installs Node 24. Says nothing when nothing is to do.
import { installChromium } from './setup/chromium.mjs';
import { cudaSkipReason, hasCudaSources, installCudaWheels } from './setup/cuda-wheels.mjs';
import { buildNative, startTargets, testTargets } from './setup/native-build.mjs';
import { installNatsServer, installNatsServerOnce } from './setup/nats-server.mjs';
import { installNeovim } from './setup/neovim.mjs';
import { refuseTakenOptions } from './setup/npm-options.mjs';
import { installPackages } from './setup/packages.mjs';
import { checkPlatform } from './setup/prerequisites.mjs';
import { installPromtool } from './setup/promtool.mjs';
import { installPythonClients } from './setup/python-clients.mjs';
import { installBubblewrap, installSandboxTools } from './setup/sandbox-tools.mjs';
import { SetupError, say } from './setup/steps.mjs';
import { skippedSuites } from './testing/skip.mjs';

/**
 * Lists of parts that are done side by side, each in order: what compiles, and what mostly waits for downloads. Each part does nothing
 * when its result is already there.
 */
const parts = {
  start: [[installPackages, () => buildNative({ targets: startTargets }), prepareAudit, prepareSandbox]],
  test: [
    [installPackages, () => buildNative({ targets: testTargets }), prepareNats],
    [prepareSandboxTests, prepareNeovim, prepareChromium, preparePromtool, preparePythonClients, prepareCuda],
  ],
};

function prepareAudit() {
  return orSay('nats-server', 'audit records will wait in the local outbox', installNatsServerOnce);
}

function prepareNats() {
  return orSay('nats-server', 'the tests of the audit stream will fail', installNatsServer);
}

function prepareSandbox() {
  return orSay('bubblewrap', 'no tool will run', installBubblewrap);
}

async function prepareSandboxTests() {
  if (skippedSuites().has('sandbox')) return;
  const consequence = 'the sandbox suite will fail (QUERN_TEST_SKIP=sandbox leaves it out)';
  await orSay('bubblewrap and strace', consequence, installSandboxTools);
}

async function prepareNeovim() {
  if (skippedSuites().has('e2e')) return;
  await orSay('Neovim', 'the Neovim test of the e2e suite will fail', installNeovim);
}

async function prepareChromium() {
  if (skippedSuites().has('editor')) return;
  await orSay('Chromium', 'the editor suite will fail (QUERN_TEST_SKIP=editor leaves it out)', installChromium);
}

async function preparePromtool() {
  if (skippedSuites().has('deploy')) return;
  await orSay('promtool', 'the deploy suite will fail (QUERN_TEST_SKIP=deploy leaves it out)', installPromtool);
}

function preparePythonClients() {
  return orSay('Python clients', 'the Python test of the e2e suite will fail', installPythonClients);
}

async function prepareCuda() {
  if (!hasCudaSources()) return;
  const reason = cudaSkipReason(skippedSuites());
  if (reason !== null) return say(`CUDA compiler: not installed, ${reason}`);
  await orSay('CUDA compiler', 'the cuda suite will fail (QUERN_TEST_SKIP=cuda leaves it out)', installCudaWheels);
}

/** For what is not needed by all: the mesh serves without it, and of the tests only those that need it fail and say so. */
async function orSay(name, consequence, install) {
  try {
    await install();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`${name}: not installed, ${consequence}.\n${error.message}`);
  }
}

async function inOrder(list) {
  for (const part of list) await part();
}

async function main(purpose) {
  if (!Object.hasOwn(parts, purpose)) {
    throw new SetupError(`usage: node scripts/bootstrap.mjs start|test; got "${purpose ?? ''}".`);
  }
  if (purpose === 'start') refuseTakenOptions();
  checkPlatform();
  const ends = await Promise.allSettled(parts[purpose].map(inOrder));
  const failed = ends.find(({ status }) => status === 'rejected');
  if (failed) throw failed.reason;
}

try {
  await main(process.argv[2]);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`\n${error.message}\n`);
  process.exitCode = 1;
}
