// Suites that are a list of commands: each is one test.
import { packageBin } from '../setup/paths.mjs';
import { run, say } from '../setup/steps.mjs';

/** Runs each [name of an npm package's command, ...arguments] and counts exit code 0 as passed. */
export async function runCommands(commands, { niceness, timeoutMs }) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, ...args] of commands) {
    const { code, output, timedOut } = await run(packageBin(name), args, { niceness, timeoutMs });
    if (code === 0) {
      counts.passed++;
      continue;
    }
    counts.failed++;
    say(`  FAILED: ${name} ${args.join(' ')}${timedOut ? ' (timed out)' : ''}\n${output.replace(/^/gm, '    ')}`);
  }
  return counts;
}
