// The test suites in two lanes, each in the order in which its suites run: cheap and telling ones first.
import { basename } from 'node:path';
import { runCommands } from './command-suite.mjs';
import { atOnce, waitersOf } from './lanes.mjs';
import { compileCuda, runMutants, runNativeTests } from './native-suite.mjs';
import { findTests, runNodeTests } from './node-suite.mjs';

/** In milliseconds. QUERN_TEST_TIMEOUT_FACTOR stretches every limit on a slow machine. */
const minutes = (count) => count * 60_000 * Number(process.env.QUERN_TEST_TIMEOUT_FACTOR || 1);

/**
 * A suite of *.test.ts files. `run({ filters, niceness })` resolves with { passed, failed, skipped }. `isolated`: a process per file;
 * but the files of each folder in `together` share one, since to load the services again takes a second of a processor. `waits`: its
 * tests start services and wait for them most of the time; such suites run in a lane of their own beside the others, and of their
 * processes two at once (lanes.mjs).
 */
function nodeSuite(name, paths, { isolated, together = [], waits = false, timeoutMs }) {
  const find = (filters) => paths.flatMap((path) => findTests(path, filters));
  const run = async ({ filters, niceness }) => {
    const shared = together.map((folder) => ({
      part: `${name}-${basename(folder)}`,
      files: findTests(folder, filters),
    }));
    const others = find(filters).filter((file) => !shared.some(({ files }) => files.includes(file)));
    // What takes longest comes first: the first of `together`, then the files with processes of their own.
    const [first, ...rest] = shared.map((part) => ({ ...part, isolated: false }));
    const parts = [first, { part: name, files: others, isolated }, ...rest].filter(Boolean);
    const sum = { passed: 0, failed: 0, skipped: 0 };
    await atOnce(parts, waits ? waitersOf() : 1, async ({ part, files, isolated }) => {
      const counts = await runNodeTests(part, files, { isolated, niceness, timeoutMs });
      for (const key of Object.keys(sum)) sum[key] += counts[key];
    });
    return sum;
  };
  return { name, find, waits, run };
}

/** A suite of commands; path filters do not apply to it. */
const commandSuite = (name, commands) => ({
  name,
  run: ({ niceness }) => runCommands(commands, { niceness, timeoutMs: minutes(10) }),
});

const nativeSuite = (name, preset, options) => ({
  name,
  run: ({ niceness }) => runNativeTests(preset, { ...options, niceness, timeoutMs: minutes(20) }),
});

/** The contract of one backend; whole models take too long in emulation and run on a GPU (scripts/gpu-check). */
const emulationArgs = ['--backend', 'cuda', '--filter', 'backend_contract,cuda_'];

/** What shares data between threads; the rest is single-threaded and only ten times slower under TSan. */
const tsanArgs = ['--filter', 'cpu_pool,cpu_backend,cpu_matrix,cpu_work,engine_,backend_contract_linear'];

export const suites = [
  commandSuite('typecheck', [['tsc', '-p', '.', '--incremental', '--tsBuildInfoFile', '.cache/typecheck.tsbuildinfo']]),
  commandSuite('lint', [
    ['biome', 'check', '.'],
    ['buf', 'lint'],
    ['buf', 'breaking', '--against', 'proto/baseline.json'],
  ]),
  nodeSuite('tidy', ['test/tidy.test.ts', 'test/generated.test.ts'], { isolated: true, timeoutMs: minutes(10) }),
  nodeSuite('unit', ['test/unit'], { isolated: false, timeoutMs: minutes(20) }),
  nativeSuite('native', 'release', { shards: 2 }),
  nodeSuite('contract', ['test/contract'], {
    isolated: true,
    together: ['gateway', 'audit', 'lsp', 'kit'].map((folder) => `test/contract/${folder}`),
    waits: true,
    timeoutMs: minutes(25),
  }),
  nodeSuite('sandbox', ['test/sandbox'], { isolated: true, waits: true, timeoutMs: minutes(20) }),
  nodeSuite('e2e', ['test/e2e'], { isolated: true, waits: true, timeoutMs: minutes(20) }),
  nodeSuite('editor', ['test/editor'], { isolated: true, waits: true, timeoutMs: minutes(20) }),
  nodeSuite('deploy', ['test/deploy'], { isolated: true, waits: true, timeoutMs: minutes(10) }),
  nodeSuite('faults', ['test/faults'], { isolated: true, waits: true, timeoutMs: minutes(20) }),
  nativeSuite('asan', 'asan', { shards: 2 }),
  nativeSuite('tsan', 'tsan', { args: tsanArgs }),
  { name: 'mutants', run: ({ niceness }) => runMutants({ niceness, timeoutMs: minutes(20) }) },
  nativeSuite('emulation', 'release', { target: 'emulation_tests', args: emulationArgs }),
  { name: 'cuda', run: compileCuda },
];
