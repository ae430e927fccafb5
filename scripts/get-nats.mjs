// node scripts/get-nats.mjs
// Builds nats-server, which carries the audit log of a one-machine mesh, unless there is one that is new enough.
import { findNatsServer, installNatsServer } from './setup/nats-server.mjs';
import { SetupError, say } from './setup/steps.mjs';

try {
  await installNatsServer();
  say(`nats-server: ${await findNatsServer()}`);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`\n${error.message}\n`);
  process.exitCode = 1;
}
