/** The self-test's judgement: right answers pass, each wrong one is found, and missing ones are wrong. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeInnerEtc } from '../../../../services/tools/jail/inner-etc.ts';
import { judgeAnswers, judgeControl, ordersOf, questions } from '../../../../services/tools/jail/probe-orders.ts';
import { SyscallOrders, syscallRunner } from '../../../../services/tools/jail/syscall-runner.ts';

const dir = mkdtempSync(join(tmpdir(), 'quern-questions-'));
const probe = join(dir, 'probe');
writeFileSync(probe, syscallRunner(), { mode: 0o755 });

/** Runs orders here, where nothing is refused that a sandbox refuses. */
function runHere(orders: SyscallOrders): ReturnType<SyscallOrders['decode']> {
  const { stdout } = spawnSync(probe, [], { input: orders.encode(), timeout: 5_000, maxBuffer: 2 ** 24, cwd: dir });
  return orders.decode(stdout);
}

test.after(() => rmSync(dir, { recursive: true, force: true }));

test('the program calls the kernel and answers with its results, errors negative', () => {
  const room = new SyscallOrders();
  const address = room.room(64);
  const answers = runHere(room.call(39).call(2, '/no/such/file', 0).call(79, address, 64).dump(address, 64));
  assert(answers[0]!.result > 1);
  assert.equal(answers[1]!.result, -2);
  assert.equal(answers[3]!.result, 64);
  assert(Buffer.from(answers[3]!.data).toString().startsWith(`${dir}\0`), 'getcwd() was read back');
});

test('outside of a sandbox the questions are answered wrongly: a test that cannot fail tells nothing', () => {
  const canary = join(dir, 'canary');
  writeFileSync(canary, 'x');
  const list = questions(canary).filter(
    ({ name }) => !/fsopen|mount|writing|by unshare|by clone|clone3|ptrace/.test(name),
  );
  const findings = judgeAnswers(list, runHere(ordersOf(list)));
  const about = new Set(findings.map((finding) => finding.about));
  assert.deepEqual([...about].sort(), ['files', 'kernel', 'network', 'privileges', 'secrets']);
  assert(
    findings.some(({ problem }) => problem.startsWith(`no ${canary}: `)),
    JSON.stringify(findings),
  );
});

test('answers that are missing are wrong', () => {
  const list = questions('/canary');
  const findings = judgeAnswers(list, []);
  assert.equal(findings.length, list.length);
  assert(findings.every(({ problem }) => problem.endsWith('no answer')));
});

test('the control outside must succeed', () => {
  const answer = (result: number) => ({ result, data: new Uint8Array() });
  const good = [3, 0, 3, 0, 5, 1000].map(answer);
  assert.equal(judgeControl(good), null);
  assert.match(judgeControl(good.slice(1)) ?? '', /5 of 6 answers/);
  assert.match(judgeControl([answer(-13), ...good.slice(1)]) ?? '', /canary cannot be read outside/);
  assert.match(judgeControl([...good.slice(0, 2), answer(-97), ...good.slice(3)]) ?? '', /IP sockets cannot be made/);
});

test("the inner /etc has its own accounts and names, and nothing of the host's but libraries, certificates, alternatives", () => {
  const host = join(dir, 'host-etc');
  spawnSync('mkdir', ['-p', join(host, 'alternatives')]);
  writeFileSync(join(host, 'ld.so.cache'), 'cache');
  writeFileSync(join(host, 'shadow'), 'secret');
  spawnSync('ln', ['-s', '/usr/bin/mawk', join(host, 'alternatives/awk')]);
  spawnSync('ln', ['-s', '/srv/private', join(host, 'alternatives/other')]);
  const etc = join(dir, 'etc');
  writeInnerEtc(etc, host);
  const found = spawnSync('find', [etc, '!', '-type', 'd', '-printf', '%P\n'], { encoding: 'utf8' }).stdout;
  assert.deepEqual(found.trim().split('\n').sort(), [
    'alternatives/awk',
    'group',
    'hosts',
    'ld.so.cache',
    'nsswitch.conf',
    'passwd',
    'resolv.conf',
    'start',
  ]);
});
