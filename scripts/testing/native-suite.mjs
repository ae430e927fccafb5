// Runs the native test binary of a preset and counts the outcome by its closing line, "N passed, N failed".
import { findNvcc, hasCudaSources } from '../setup/cuda-wheels.mjs';
import { buildNative, outputPath } from '../setup/native-build.mjs';
import { findOnPath, node24 } from '../setup/paths.mjs';
import { formatSeconds, run, SetupError, say, tail } from '../setup/steps.mjs';

const nothing = { passed: 0, failed: 0, skipped: 0 };
const sanitizerEnv = {
  ASAN_OPTIONS: 'detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1',
};

/** Builds `target` of a preset if need be and runs it with `args`: as `shards` processes that share its tests, side by side. */
export async function runNativeTests(preset, { target = 'engine_tests', args = [], shards = 1, niceness, timeoutMs }) {
  if (!(await builds(preset, target))) return { passed: 0, failed: 1, skipped: 0 };
  const command = await testCommand(preset, target);
  const shardArgs = (shard) => (shards === 1 ? [] : ['--shards', String(shards), '--shard', String(shard)]);
  const all = await Promise.all(
    Array.from({ length: shards }, (_, shard) =>
      runShard(preset, command, [...args, ...shardArgs(shard)], { niceness, timeoutMs }),
    ),
  );
  const sum = (key) => all.reduce((total, counts) => total + counts[key], 0);
  return { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') };
}

async function runShard(preset, [command, ...prefix], args, { niceness, timeoutMs }) {
  const env = { ...process.env, ...sanitizerEnv };
  const result = await run(command, [...prefix, ...args], { env, niceness, timeoutMs });
  const counts = countTests(result.output);
  for (const [, name, reason] of result.output.matchAll(/^skip (\S+) \([^)]*\): (.*)$/gm))
    say(`  skipped: ${name} (${reason})`);
  if (result.code === 0 && counts) return counts;
  const last = /^ok +(\S+)(?![\s\S]*^ok)/m.exec(result.output)?.[1];
  const how = result.timedOut
    ? `did not end within ${formatSeconds(timeoutMs / 1000)}; the last test that ended was ${last ?? 'none'}`
    : `ended with ${result.signal ?? `exit code ${result.code}`}${counts ? '' : ' and without its closing line'}`;
  say(`  FAILED: engine_tests (${preset}) ${how}\n${tail(result.output.replace(/^(ok|skip) .*\n/gm, ''))}`);
  return { ...(counts ?? nothing), failed: Math.max(1, counts?.failed ?? 0) };
}

/** What the closing lines of engine_tests say, "2 skipped" if any and "71 passed, 0 failed", or null without them. */
function countTests(output) {
  const closing = /(?:^|\n)(?:(\d+) skipped\n)?(\d+) passed, (\d+) failed\s*$/.exec(output);
  return closing && { passed: Number(closing[2]), failed: Number(closing[3]), skipped: Number(closing[1] ?? 0) };
}

/** Seeded bugs, each of which the tests must notice: test/native/mutation.mjs. A mutant that survives is a failure. */
export async function runMutants({ niceness, timeoutMs }) {
  if (!(await builds('release', 'mutant_tests'))) return { passed: 0, failed: 1, skipped: 0 };
  const args = ['test/native/mutation.mjs', outputPath('release', 'mutant_tests')];
  const { code, output } = await run(node24, args, { niceness, timeoutMs });
  const [, noticed, all] = /^(\d+) of (\d+) mutants noticed$/m.exec(output) ?? [null, 0, 0];
  if (code !== 0) say(`  FAILED: mutants\n${tail(output)}`);
  return { passed: Number(noticed), failed: Math.max(code === 0 ? 0 : 1, all - noticed), skipped: 0 };
}

/** Compiles and links the CUDA backend; counts as one test. Running it needs a GPU: scripts/gpu-check. */
export async function compileCuda() {
  if (!hasCudaSources()) return nothing;
  if (process.arch !== 'x64' && !findNvcc()) {
    say(`  skipped: the pinned nvcc wheels are for x64, this is ${process.arch}`);
    return { ...nothing, skipped: 1 };
  }
  return (await builds('cuda')) ? { ...nothing, passed: 1 } : { ...nothing, failed: 1 };
}

async function builds(preset, target) {
  try {
    await buildNative({ preset, ...(target === undefined ? {} : { targets: [target] }) });
    return true;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`  FAILED: ${error.message}`);
    return false;
  }
}

/** TSan of GCC 12 cannot map its shadow memory under wide address randomization: it runs without. */
async function testCommand(preset, target) {
  const binary = outputPath(preset, target);
  const setarch = findOnPath('setarch');
  if (preset !== 'tsan' || !setarch) return [binary];
  const { code } = await run(setarch, ['-R', 'true']);
  return code === 0 ? [setarch, '-R', binary] : [binary];
}
