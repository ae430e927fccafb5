/** Suites that wait for services run beside those that compute, two of their processes at once. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { runTests } from './support/run-tests.ts';

const testing = resolve(import.meta.dirname, '../../../scripts/testing');

type Lane = { names: string[]; niceness: number };

/** The lanes of the real suites with these names, on such a machine; absent: on this one. */
function lanesOf(names: readonly string[], machine?: { processors: number; quota: boolean }): Lane[] {
  const code = `import { lanesOf } from './lanes.mjs';
    import { suites } from './suites.mjs';
    const [names, machine] = JSON.parse(process.argv[1]);
    const lanes = lanesOf(suites.filter(({ name }) => names.includes(name)), machine ?? undefined);
    console.log(JSON.stringify(lanes.map(({ suites, niceness }) => ({ names: suites.map(({ name }) => name), niceness }))));`;
  const args = ['--input-type=module', '-e', code, JSON.stringify([names, machine ?? null])];
  return JSON.parse(execFileSync(process.execPath, args, { cwd: testing, encoding: 'utf8' })) as Lane[];
}

const SOME = ['typecheck', 'unit', 'native', 'contract', 'e2e', 'faults', 'asan'];

test('where there is more than one processor, what waits has a lane of its own, and what computes makes way for it', () => {
  assert.deepEqual(lanesOf(SOME, { processors: 2, quota: false }), [
    { names: ['contract', 'e2e', 'faults'], niceness: 0 },
    { names: ['typecheck', 'unit', 'native', 'asan'], niceness: 5 },
  ]);
});

test('with one processor, with a share counted in time, or with suites of one kind there is one lane', () => {
  const one = [{ names: SOME, niceness: 0 }];
  assert.deepEqual(lanesOf(SOME, { processors: 1, quota: false }), one);
  assert.deepEqual(lanesOf(SOME, { processors: 8, quota: true }), one);
  assert.deepEqual(lanesOf(['unit'], { processors: 8, quota: false }), [{ names: ['unit'], niceness: 0 }]);
});

test('two processes of a waiting suite run at once only where there is more than one processor to share', () => {
  const code = `import { waitersOf } from './lanes.mjs';
    console.log(JSON.stringify(JSON.parse(process.argv[1]).map((machine) => waitersOf(machine))));`;
  const machines = [
    { processors: 2, quota: false },
    { processors: 1, quota: false },
    { processors: 8, quota: true },
  ];
  const args = ['--input-type=module', '-e', code, JSON.stringify(machines)];
  assert.equal(execFileSync(process.execPath, args, { cwd: testing, encoding: 'utf8' }).trim(), '[2,1,1]');
});

const isOne = lanesOf(['unit', 'contract']).length === 1;

/** A test that says that it runs and waits until another one has said so. */
const meet = (own: string, other: string): string => `
  import { existsSync, writeFileSync } from 'node:fs';
  import { setTimeout as sleep } from 'node:timers/promises';
  test('${own}', async () => {
    writeFileSync('${own}', '');
    while (!existsSync('${other}')) await sleep(20);
  });\n`;

test('both lanes run at once: each waits for what the other does', {
  skip: isOne && 'this machine has one lane',
}, (t) => {
  const files = {
    'test/unit/a.test.ts': meet('unit', 'contract'),
    'test/contract/a.test.ts': meet('contract', 'unit'),
  };
  // Only one that never comes is waited for so long.
  const { status, lastLine } = runTests(t, files, ['unit', 'contract'], { QUERN_TEST_TIMEOUT_FACTOR: '0.3' });
  assert.equal(lastLine, '2 passed, 0 failed, 0 skipped');
  assert.equal(status, 0);
});

test('two processes of a suite that waits run at once', { skip: isOne && 'this machine has one lane' }, (t) => {
  const files = {
    'test/contract/gateway/a.test.ts': meet('one', 'two'),
    'test/contract/b.test.ts': meet('two', 'one'),
    'test/contract/kit/c.test.ts': meet('three', 'four'),
    'test/contract/lsp/d.test.ts': meet('four', 'three'),
  };
  const { status, lastLine } = runTests(t, files, ['contract'], { QUERN_TEST_TIMEOUT_FACTOR: '0.3' });
  assert.equal(lastLine, '4 passed, 0 failed, 0 skipped');
  assert.equal(status, 0);
});
