// npm test [-- SUITE|PATH ...]
// Runs the test suites, in two lanes where there is more than one processor, and ends with "N passed, N failed, N skipped". Names
// of suites choose suites; any other word chooses test files whose path contains it: `npm test -- unit kit`.
// QUERN_TEST_SKIP=cuda,tsan leaves suites out.
import { formatSeconds, SetupError, say } from './setup/steps.mjs';
import { buildAhead } from './testing/build-ahead.mjs';
import { lanesOf } from './testing/lanes.mjs';
import { skippedSuites } from './testing/skip.mjs';
import { suites } from './testing/suites.mjs';

/** { chosen, filters } by the command line; throws on a word that chooses nothing. */
function choose(words) {
  const isName = (word) => suites.some((suite) => suite.name === word);
  const filters = words.filter((word) => !isName(word));
  const named = suites.filter((suite) => words.includes(suite.name));
  const candidates = named.length > 0 ? named : suites;
  const chosen = filters.length > 0 ? candidates.filter((suite) => suite.find?.(filters).length > 0) : candidates;
  if (chosen.length > 0) return { chosen, filters };
  const names = suites.map((suite) => suite.name).join(', ');
  throw new SetupError(`No test file matches ${words.join(' ')}. Suites: ${names}; other words match file paths.`);
}

async function runSuite(suite, { filters, niceness, skipped }) {
  if (skipped.has(suite.name)) {
    say(`${suite.name}: skipped by QUERN_TEST_SKIP`);
    return { name: suite.name, passed: 0, failed: 0, skipped: 1, seconds: 0 };
  }
  say(`${suite.name} ...`);
  const startedAt = performance.now();
  const counts = await suite.run({ filters, niceness });
  const result = { name: suite.name, ...counts, seconds: (performance.now() - startedAt) / 1000 };
  say(`${suite.name}: ${describe(counts)} in ${formatSeconds(result.seconds)}`);
  return result;
}

function describe({ passed, failed, skipped }) {
  if (passed + failed + skipped === 0) return '0 tests';
  return `${passed} passed${failed ? `, ${failed} failed` : ''}${skipped ? `, ${skipped} skipped` : ''}`;
}

/** The suites of a lane, one after the other. */
async function runLane({ suites: lane, niceness }, options) {
  const results = [];
  for (const suite of lane) results.push(await runSuite(suite, { ...options, niceness }));
  return results;
}

function printTable(results, total) {
  const rows = [...results, { name: 'all', ...total }];
  const cell = (value) => String(value).padStart(8);
  say(`\n${'suite'.padEnd(10)}${['passed', 'failed', 'skipped'].map(cell).join('')}       time`);
  for (const { name, passed, failed, skipped, seconds } of rows) {
    say(`${name.padEnd(10)}${[passed, failed, skipped].map(cell).join('')}${formatSeconds(seconds).padStart(13)}`);
  }
}

async function main(words) {
  const { chosen, filters } = choose(words);
  const skipped = skippedSuites();
  const unknown = [...skipped].filter((name) => !suites.some((suite) => suite.name === name));
  if (unknown.length > 0) throw new SetupError(`QUERN_TEST_SKIP names no suite: ${unknown.join(', ')}.`);
  const startedAt = performance.now();
  void buildAhead(chosen.map(({ name }) => name).filter((name) => !skipped.has(name)));
  const ended = (await Promise.all(lanesOf(chosen).map((lane) => runLane(lane, { filters, skipped })))).flat();
  const results = chosen.map(({ name }) => ended.find((result) => result.name === name));
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  const seconds = (performance.now() - startedAt) / 1000;
  const total = { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped'), seconds };
  printTable(results, total);
  say(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  process.exitCode = total.failed === 0 ? 0 : 1;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
