/** `scripts/test.mjs` in a scratch checkout: what it counts, what it calls a failure, how it ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runTests } from './support/run-tests.ts';

test('passing tests: exit code 0 and a plain closing line', (t) => {
  const text = "test('a', () => {});\ntest('b', () => {});\ntest('c', { skip: 'no GPU here' }, () => {});\n";
  const { status, stdout, lastLine } = runTests(t, { 'test/unit/a.test.ts': text }, ['unit']);
  assert.equal(lastLine, '2 passed, 0 failed, 1 skipped');
  assert.match(stdout, /skipped: c \(no GPU here\)/);
  assert.equal(status, 0);
});

test('a describe block that is skipped counts as one skipped test', (t) => {
  const text =
    "import { describe } from 'node:test';\ndescribe('d', { skip: 'no model' }, () => { test('a', () => {}); });\n";
  const { stdout, lastLine } = runTests(t, { 'test/unit/a.test.ts': text }, ['unit']);
  assert.match(stdout, /skipped: d \(no model\)/);
  assert.equal(lastLine, '0 passed, 0 failed, 1 skipped');
});

test('a failing test: told with its name, file and line, and exit code 1', (t) => {
  const text = "test('sums', () => { throw new Error('2 is not 3'); });\ntest('b', () => {});\n";
  const { status, stdout, lastLine } = runTests(t, { 'test/unit/a.test.ts': text }, ['unit']);
  assert.equal(lastLine, '1 passed, 1 failed, 0 skipped');
  assert.match(stdout, /FAILED: sums {2}test\/unit\/a\.test\.ts:2\n.*2 is not 3/);
  assert.equal(status, 1);
});

for (const [suite, file] of Object.entries({ unit: 'test/unit/a.test.ts', faults: 'test/faults/a.test.ts' })) {
  test(`a leaked handle in ${suite} is a failure, not a hang`, (t) => {
    const text = "test('leaks', () => { setInterval(() => {}, 1000); });\n";
    const { status, stdout } = runTests(t, { [file]: text }, [suite], { QUERN_TEST_TIMEOUT_FACTOR: '0.003' });
    assert.match(stdout, new RegExp(`FAILED: ${suite} did not end within .* The usual cause is a handle`));
    assert.match(stdout, /, 1 failed, 0 skipped\n$/);
    assert.equal(status, 1);
  });
}

test('a test file that kills its process is a failure', (t) => {
  const { status, lastLine } = runTests(t, { 'test/unit/a.test.ts': 'process.exit(0);\n' }, ['unit']);
  assert.equal(lastLine, '0 passed, 1 failed, 0 skipped');
  assert.equal(status, 1);
});

test('a run whose counts a test writes over is a failure that says so', (t) => {
  // As a test does that starts Node with process.execArgv: the file of the counts begins anew below the run's own writing.
  const text = `import { existsSync, statSync, writeFileSync } from 'node:fs';
    import { setTimeout as sleep } from 'node:timers/promises';
    const counts = process.execArgv.flatMap((one) => /^--test-reporter-destination=(.+\\.jsonl)$/.exec(one)?.[1] ?? [])[0];
    test('a', () => {});
    test('b', async () => {
      while (!existsSync(counts) || statSync(counts).size === 0) await sleep(20);
      writeFileSync(counts, 'x');
    });\n`;
  const { status, stdout, lastLine } = runTests(t, { 'test/unit/a.test.ts': text }, ['unit']);
  assert.match(
    stdout,
    /FAILED: the counts of the run were written over; does a test start Node with process\.execArgv\?/,
  );
  assert.match(lastLine ?? '', /, [1-9]\d* failed, /);
  assert.equal(status, 1);
});

test('a file that does not load is a failure', (t) => {
  const { status, stdout } = runTests(t, { 'test/contract/a.test.ts': "import './missing.ts';\n" }, ['contract']);
  assert.match(stdout, /missing\.ts/);
  assert.equal(status, 1);
});

test('QUERN_TEST_SKIP: the suite is counted as skipped and named', (t) => {
  const files = { 'test/unit/a.test.ts': "test('a', () => {});\n" };
  const { stdout, lastLine } = runTests(t, files, ['unit', 'tsan'], { QUERN_TEST_SKIP: 'tsan' });
  assert.match(stdout, /^tsan: skipped by QUERN_TEST_SKIP$/m);
  assert.equal(lastLine, '1 passed, 0 failed, 1 skipped');
});

test('a suite without files has 0 tests; words that are no suite choose files', (t) => {
  const files = { 'test/unit/a.test.ts': "test('a', () => {});\n", 'test/unit/b.test.ts': "test('b', () => {});\n" };
  assert.match(runTests(t, files, ['unit', 'e2e']).stdout, /^e2e: 0 tests/m);
  assert.equal(runTests(t, files, ['unit', 'b.test']).lastLine, '1 passed, 0 failed, 0 skipped');
});

test('a word or a skipped suite that does not exist is an error that lists the suites', (t) => {
  const unknownWord = runTests(t, {}, ['untit']);
  assert.match(unknownWord.stderr, /No test file matches untit\. Suites: typecheck, lint, /);
  assert.equal(unknownWord.status, 1);
  const unknownSkip = runTests(t, {}, ['unit'], { QUERN_TEST_SKIP: 'gpu' });
  assert.match(unknownSkip.stderr, /QUERN_TEST_SKIP names no suite: gpu/);
  assert.equal(unknownSkip.status, 1);
});
