/** What a command learns of the service and of the host: nothing, where the same question outside finds it. */
import assert from 'node:assert/strict';
import { chmodSync, closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { WORK } from '../../services/tools/jail/launch-options.ts';
import { startWholeJail } from './jail-client.ts';

// Before the host starts: it inherits the variable, and the descriptor below.
const CANARY = 'canary-5f1c0e9a';
process.env.CANARY = CANARY;
const stray = openSync('/etc/hostname', 'r');
const jail = await startWholeJail({ after });
closeSync(stray);

test('the service has the canary in its environment; no process inside shows it', async () => {
  assert(readFileSync(`/proc/${jail.host.pid}/environ`, 'latin1').includes(CANARY), 'control: the host has it');
  const { stdout, end } = await jail.bash('cat /proc/*/environ /proc/*/cmdline; env');
  assert.equal(end.exitCode, 0, stdout);
  assert.match(stdout, /LANG=C.UTF-8/, 'control: the own environment is read');
  assert(!stdout.includes(CANARY));
  assert(!stdout.includes('QUERN'));
  assert(!stdout.includes(jail.folder), 'no path of the service in any command line');
});

test('PID 1 inside has an empty environment', async () => {
  const { stdout } = await jail.bash('cat /proc/1/environ | wc -c; cat /proc/self/environ | wc -c');
  const [first, own] = stdout.trim().split('\n').map(Number);
  assert.equal(first, 0);
  assert(own! > 0);
});

test('identity: an account that is nobody, no capability, no way to gain one', async () => {
  const { stdout } = await jail.bash('id; cat /proc/self/status; cat /proc/self/uid_map');
  assert.match(stdout, /^uid=1000\(sandbox\) gid=1000\(sandbox\) groups=1000\(sandbox\)$/m);
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
    assert.match(stdout, new RegExp(`^${set}:\\s+0000000000000000$`, 'm'));
  }
  assert.match(stdout, /^NoNewPrivs:\s+1$/m);
  assert.match(stdout, /^Seccomp:\s+2$/m);
  assert.match(stdout, /^\s+1000\s+\d+\s+1$/m, 'one account is mapped');
  assert.notEqual(jail.uid, 0);
});

test('descriptors: 0, 1, 2 and nothing inherited', async () => {
  const program = 'import os; print(sorted(int(n) for n in os.listdir("/proc/self/fd")))';
  const { stdout } = await jail.python(program);
  assert.equal(stdout, '[0, 1, 2, 3]\n', '3 is the folder that is being listed');
});

test('other processes of the host are not there', async () => {
  const program =
    'import os; print(sum(n.isdigit() for n in os.listdir("/proc"))); os.kill(int(os.environ["OTHER"]), 0)';
  const { stdout, stderr } = await jail.python(program, { env: { OTHER: String(jail.host.pid) } });
  assert.equal(stdout, '2\n', 'PID 1 and the command');
  assert.match(stderr, /ProcessLookupError/);
  process.kill(jail.host.pid!, 0); // control: it is there outside
});

test('the machine has another name inside, and its own hides', async () => {
  const { stdout } = await jail.bash('hostname; cat /etc/passwd; cat /etc/resolv.conf');
  assert.match(stdout, /^sandbox$/m);
  const accounts = readFileSync('/etc/passwd', 'utf8').trim().split('\n').length;
  assert(accounts > 3, 'control: the host has more accounts');
  assert.equal(stdout.split('\n').filter((line) => /:x:\d+:/.test(line)).length, 3);
});

test('host files are absent: accounts, keys, models, the service and its state', async () => {
  const secret = join(jail.folder, 'secret.key');
  writeFileSync(secret, CANARY);
  chmodSync(secret, 0o644);
  const paths = [
    secret,
    jail.folder,
    '/etc/shadow',
    '/root',
    '/home',
    '/var/log',
    '/sys/kernel',
    '/run',
    process.cwd(),
    import.meta.filename,
  ];
  assert(existsSync(secret) && existsSync(import.meta.filename), 'control: they are there outside');
  const program = 'import os, sys\nfor p in sys.argv[1:]:\n  if os.path.lexists(p): print(p)';
  const { stdout, end } = await jail.run([jail.interpreters.python!, '-c', program, ...paths, '/etc/passwd']);
  assert.equal(end.exitCode, 0);
  assert.equal(stdout, '/etc/passwd\n', 'only the control is there');
});

test('nothing but /work, /tmp and /dev/shm takes a file, and none of the rest outlives a run', async () => {
  const script = `for d in / /usr /usr/bin /etc /dev /dev/pts /proc /lib /opt /run /proc/sys/kernel /work /tmp /dev/shm; do
    (: > $d/quern-file) 2>/dev/null && echo $d; done; mkdir /tmp/a /usr/a 2>/dev/null; ls -d /tmp/a /usr/a 2>/dev/null`;
  const { stdout } = await jail.bash(script);
  assert.deepEqual(stdout.trim().split('\n'), ['/work', '/tmp', '/dev/shm', '/tmp/a']);
  const again = await jail.bash('ls /work /tmp /dev/shm');
  assert.equal(again.stdout, '/dev/shm:\n\n/tmp:\n\n/work:\n');
  assert(!existsSync('/tmp/quern-file'), "the host's /tmp is another one");
});

test('sizes of what is writable in memory are bounded, in bytes and by files', async () => {
  const fill = (path: string): string => `head -c 64000000 /dev/zero > ${path}; wc -c < ${path}; rm ${path}`;
  const { stdout } = await jail.bash(['/tmp', '/dev/shm', WORK].map((place) => fill(`${place}/a`)).join('; '));
  const sizes = stdout.trim().split('\n').map(Number);
  assert.deepEqual(sizes, [16 * 1024 ** 2, 8 * 1024 ** 2, 16 * 1024 ** 2]);
});

test('two conversations do not see each other: folders, processes, System V memory, abstract sockets', async () => {
  const one = await jail.ask<string>({ kind: 'workspace' });
  const two = await jail.ask<string>({ kind: 'workspace' });
  const workspace = (path: string) => ({ workspace: { path, writable: true, protected: [] } });
  const program = `import socket, time
s = socket.socket(socket.AF_UNIX); s.bind("\\0quern-meeting"); s.listen()
open("note", "w").write("mine"); print("up", flush=True); time.sleep(20)`;
  const first = await jail.session([jail.interpreters.python!, '-c', program], workspace(one));
  await first.until('up');
  const visitor = `import os, socket
print(os.listdir("."))
try: socket.socket(socket.AF_UNIX).connect("\\0quern-meeting"); print("met")
except OSError as e: print(e.errno)`;
  const other = await jail.python(visitor, workspace(two));
  assert.equal(other.stdout, '[]\n111\n', other.stderr);
  const same = await jail.bash('cat note; ps ax | grep -c meeting', workspace(one));
  assert.match(same.stdout, /^mine/, 'control: the same workspace is shared by calls of one conversation');
  await first.kill('cancelled');
});
