// node scripts/get-jaeger.mjs
// Builds Jaeger, in which `quern up` shows traces, unless there is one. Takes ten to fifteen minutes on two cores.
import { findJaeger, installJaeger } from './setup/jaeger.mjs';
import { SetupError, say } from './setup/steps.mjs';

try {
  await installJaeger();
  say(`jaeger: ${findJaeger()}`);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`\n${error.message}\n`);
  process.exitCode = 1;
}
