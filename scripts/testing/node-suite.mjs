// Runs the *.test.ts files of one folder with node:test and counts the outcome.
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join, relative } from 'node:path';
import { cacheDir, listFiles, node24, root } from '../setup/paths.mjs';
import { formatSeconds, run, say } from '../setup/steps.mjs';

const tokenizerDir = join(root, '../shared/tokenizers/qwen-coder');

/** Test files under a path of the checkout (a folder or one file) whose path contains one of `filters`, if any. */
export function findTests(path, filters) {
  const absolute = join(root, path);
  const found = path.endsWith('.ts')
    ? [absolute].filter(existsSync)
    : listFiles(absolute, (name, isDirectory) => isDirectory || name.endsWith('.test.ts'));
  return found.filter((file) => filters.length === 0 || filters.some((text) => relative(root, file).includes(text)));
}

/**
 * Runs test files on Node 24 and resolves with { passed, failed, skipped }. Without `isolated` all run in one process,
 * which is far faster but shares globals: for pure unit tests. A run that ends without a summary is one failure.
 */
export async function runNodeTests(suite, files, { isolated, niceness, timeoutMs }) {
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  mkdirSync(join(cacheDir, 'test'), { recursive: true });
  const keptPath = join(cacheDir, 'test', `${suite}.jsonl`); // of the last run, for people
  const countsPath = join(cacheDir, 'test', `${suite}-${process.pid}.jsonl`); // other runs may go on beside this one
  const reporter = (name) => `--test-reporter=${join(root, 'scripts/testing', name)}`;
  const args = [
    '--test',
    ...(isolated ? [] : ['--test-isolation=none']),
    ...[reporter('failures-reporter.mjs'), '--test-reporter-destination=stdout'],
    ...[reporter('counts-reporter.mjs'), `--test-reporter-destination=${countsPath}`],
    ...files,
  ];
  const result = await run(node24, args, { env: testEnv(), inherit: true, niceness, timeoutMs });
  const counts = readCounts(countsPath);
  if (existsSync(countsPath)) renameSync(countsPath, keptPath);
  return judge(suite, result, counts, timeoutMs);
}

function testEnv() {
  // grpc-js writes to the console what its caller is told anyway; tests provoke such errors all the time.
  const env = { GRPC_VERBOSITY: 'NONE', ...process.env, NODE_COMPILE_CACHE: join(cacheDir, 'node-compile') };
  if (!env.QUERN_TEST_TOKENIZER_DIR && existsSync(tokenizerDir)) env.QUERN_TEST_TOKENIZER_DIR = tokenizerDir;
  return env;
}

/** Nothing of a line that is none: a test that ran Node with the options of its own run has written over it. */
function parsed(line) {
  try {
    return [JSON.parse(line)];
  } catch {
    say(`  FAILED: the counts of the run were written over; does a test start Node with process.execArgv?`);
    return [{ test: 'unknown', passed: false, broken: true }];
  }
}

function readCounts(path) {
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  const records = lines.flatMap((line) => parsed(line));
  const ended = records.filter((record) => record.test !== undefined);
  const isBroken = records.some((record) => record.broken);
  return { counts: isBroken ? undefined : records.find((record) => record.counts)?.counts, ended };
}

function judge(suite, result, { counts, ended }, timeoutMs) {
  const last = ended.at(-1);
  const progress = last ? `; the last test that ended was "${last.test}" in ${last.file}` : '';
  if (result.timedOut) {
    say(
      `  FAILED: ${suite} did not end within ${formatSeconds(timeoutMs / 1000)}${progress}. ` +
        'The usual cause is a handle that a test left open: a server, client, child process or timer.',
    );
  } else if (!counts) {
    const how = result.signal ?? `exit code ${result.code}`;
    say(`  FAILED: ${suite} ended with ${how} and without a summary${progress}`);
  }
  if (!counts) {
    const passed = ended.filter((record) => record.passed).length;
    return { passed, failed: 1 + ended.length - passed, skipped: 0 };
  }
  const failed = counts.failed + counts.cancelled;
  const broke = failed === 0 && (result.code !== 0 || result.timedOut);
  if (broke && !result.timedOut) say(`  FAILED: ${suite} passed every test but ended with exit code ${result.code}`);
  return { passed: counts.passed, failed: broke ? 1 : failed, skipped: counts.skipped + counts.todo };
}
