// The test suites, in the order in which they run: cheap and telling ones first.
import { runCommands } from './command-suite.mjs';
import { compileCuda, runMutants, runNativeTests } from './native-suite.mjs';
import { findTests, runNodeTests } from './node-suite.mjs';

/** In milliseconds. QUERN_TEST_TIMEOUT_FACTOR stretches every limit on a slow machine. */
const minutes = (count) => count * 60_000 * Number(process.env.QUERN_TEST_TIMEOUT_FACTOR || 1);

/** A suite of *.test.ts files. `run(filters)` resolves with { passed, failed, skipped }. */
function nodeSuite(name, paths, { isolated, timeoutMs }) {
  const find = (filters) => paths.flatMap((path) => findTests(path, filters));
  return { name, find, run: (filters) => runNodeTests(name, find(filters), { isolated, timeoutMs }) };
}

/** A suite of commands; path filters do not apply to it. */
const commandSuite = (name, commands) => ({ name, run: () => runCommands(commands, { timeoutMs: minutes(10) }) });

/** The contract of one backend; whole models take too long in emulation and run on a GPU (scripts/gpu-check). */
const emulationArgs = ['--backend', 'cuda', '--filter', 'backend_contract,cuda_'];

/** What shares data between threads; the rest is single-threaded and only ten times slower under TSan. */
const tsanArgs = ['--filter', 'cpu_pool,cpu_backend,cpu_matrix,cpu_work,engine_,backend_contract_linear'];

export const suites = [
  commandSuite('typecheck', [['tsc', '-p', '.']]),
  commandSuite('lint', [
    ['biome', 'check', '.'],
    ['buf', 'lint'],
    ['buf', 'breaking', '--against', 'proto/baseline.json'],
  ]),
  nodeSuite('tidy', ['test/tidy.test.ts', 'test/generated.test.ts'], { isolated: true, timeoutMs: minutes(10) }),
  nodeSuite('unit', ['test/unit'], { isolated: false, timeoutMs: minutes(20) }),
  { name: 'native', run: () => runNativeTests('release', { shards: 2, timeoutMs: minutes(20) }) },
  nodeSuite('contract', ['test/contract'], { isolated: true, timeoutMs: minutes(25) }),
  nodeSuite('sandbox', ['test/sandbox'], { isolated: true, timeoutMs: minutes(20) }),
  nodeSuite('e2e', ['test/e2e'], { isolated: true, timeoutMs: minutes(20) }),
  nodeSuite('editor', ['test/editor'], { isolated: true, timeoutMs: minutes(20) }),
  nodeSuite('deploy', ['test/deploy'], { isolated: true, timeoutMs: minutes(10) }),
  nodeSuite('faults', ['test/faults'], { isolated: true, timeoutMs: minutes(20) }),
  { name: 'asan', run: () => runNativeTests('asan', { shards: 2, timeoutMs: minutes(20) }) },
  { name: 'tsan', run: () => runNativeTests('tsan', { args: tsanArgs, timeoutMs: minutes(20) }) },
  { name: 'mutants', run: () => runMutants({ timeoutMs: minutes(20) }) },
  {
    name: 'emulation',
    run: () => runNativeTests('release', { target: 'emulation_tests', args: emulationArgs, timeoutMs: minutes(20) }),
  },
  { name: 'cuda', run: compileCuda },
];
