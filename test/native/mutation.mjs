// Breaks the engine on purpose and demands that the tests notice: one build (the `mutant` preset) holds all seeded bugs
// and QUERN_MUTANT=k picks one. Exit status 0 only if the unbroken build passes and every mutant fails.
//
//   node test/native/mutation.mjs [--build-dir DIR] [--jobs N]
import { spawnSync } from 'node:child_process';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

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
const source = resolve(root, 'engine-native');
const { values: options } = parseArgs({
  options: {
    'build-dir': { type: 'string', default: resolve(source, 'build-mutant') },
    jobs: { type: 'string', default: '2' },
  },
});
const buildDir = resolve(options['build-dir']);

/** Runs a command; its output is shown only when it fails. */
function must(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: source, encoding: 'utf8' });
  if (status === 0) return;
  process.stderr.write(`${command} ${args.join(' ')}\n${stdout ?? ''}${stderr ?? ''}${error ?? ''}\n`);
  process.exit(1);
}

/** Runs the suite with one bug switched on (0 = none) up to the first failed test. */
function run(mutant) {
  const started = performance.now();
  const { status, signal, stdout } = spawnSync(
    resolve(buildDir, 'engine_tests'),
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

must('cmake', [
  '--preset',
  'mutant',
  '-B',
  buildDir,
  '-DQUERN_TEST_GLOB=parity*.cc;backend_contract*.cc;reference*.cc',
]);
must('cmake', ['--build', buildDir, '--target', 'engine_tests', '-j', options.jobs]);

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
