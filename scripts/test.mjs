// npm test [-- SUITE|PATH ...]
// Runs the test suites in order and ends with "N passed, N failed, N skipped". Names of suites choose suites; any other
// word chooses test files whose path contains it: `npm test -- unit kit`. QUERN_TEST_SKIP=cuda,tsan leaves suites out.
import { formatSeconds, SetupError, say } from './setup/steps.mjs';
import { buildAhead } from './testing/build-ahead.mjs';
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

async function runSuite(suite, filters, skipped) {
  if (skipped.has(suite.name)) {
    say(`${suite.name}: skipped by QUERN_TEST_SKIP`);
    return { name: suite.name, passed: 0, failed: 0, skipped: 1, seconds: 0 };
  }
  say(`${suite.name} ...`);
  const startedAt = performance.now();
  const counts = await suite.run(filters);
  const result = { name: suite.name, ...counts, seconds: (performance.now() - startedAt) / 1000 };
  say(`${suite.name}: ${describe(counts)} in ${formatSeconds(result.seconds)}`);
  return result;
}

function describe({ passed, failed, skipped }) {
  if (passed + failed + skipped === 0) return '0 tests';
  return `${passed} passed${failed ? `, ${failed} failed` : ''}${skipped ? `, ${skipped} skipped` : ''}`;
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
  const results = [];
  void buildAhead(chosen.map(({ name }) => name).filter((name) => !skipped.has(name)));
  for (const suite of chosen) results.push(await runSuite(suite, filters, skipped));
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  const total = { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped'), seconds: sum('seconds') };
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
