// Breaks the engine on purpose and demands that the tests notice: one binary (the target mutant_tests of any preset) holds
// all seeded bugs and QUERN_MUTANT=k picks one. Exit status 0 only if the unbroken engine passes and every mutant fails.
//
//   ninja -C engine-native/build mutant_tests
//   node test/native/mutation.mjs [engine-native/build/mutant_tests]
import { spawnSync } from 'node:child_process';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const MUTANTS = [
  'no q/k norm',
  'RoPE pairs 2i, 2i+1',
  'positions of what is appended are off by one',
  'RMSNorm eps 1e-4',
  'query heads read another KV head',
  'the last entry of a block table is stale',
  'biases are ignored',
  'attention scores are not scaled',
  'queries see later tokens of their chunk',
  'the residual of the first block is dropped',
  'llama3 RoPE scaling does not blend',
  'an untied head is read as tied',
];
const TESTS = ['parity_', 'backend_contract'];
const SECONDS_MAX = 300;

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const binary = resolve(process.argv[2] ?? resolve(root, 'engine-native/build/mutant_tests'));

/** Runs the suite with one bug switched on (0 = none) up to the first failed test. */
function run(mutant) {
  const started = performance.now();
  const { status, signal, stdout } = spawnSync(
    binary,
    ['--filter', TESTS.join(','), '--backend', 'cpu', '--stop', '1'],
    {
      encoding: 'utf8',
      env: { ...process.env, QUERN_MUTANT: String(mutant) },
      timeout: SECONDS_MAX * 1000,
      maxBuffer: 64 << 20,
    },
  );
  const failed = /^FAIL (\S+)/m.exec(stdout ?? '')?.[1];
  return { passed: status === 0, signal, failed, stdout, seconds: (performance.now() - started) / 1000 };
}

const unbroken = run(0);
if (!unbroken.passed) {
  process.stderr.write(`${unbroken.stdout}\nthe unbroken build fails; mutants would prove nothing\n`);
  process.exit(1);
}
console.log(`unbroken: passes (${unbroken.seconds.toFixed(1)} s)`);
let survivors = 0;
for (const [index, what] of MUTANTS.entries()) {
  const { passed, signal, failed, seconds } = run(index + 1);
  // A crash or a hang is no verdict of a test.
  const noticed = !passed && failed !== undefined;
  if (!noticed) survivors += 1;
  const verdict = noticed ? `noticed by ${failed}` : passed ? 'SURVIVED' : `ended by ${signal ?? 'a crash'}`;
  console.log(`${String(index + 1).padStart(2)} ${what}: ${verdict} (${seconds.toFixed(1)} s)`);
}
console.log(`${MUTANTS.length - survivors} of ${MUTANTS.length} mutants noticed`);
process.exit(survivors === 0 ? 0 : 1);
