/** Limits bite, by whatever route, and only on the one who runs into them. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type HostResult, startWholeJail } from './jail-client.ts';

const jail = await startWholeJail({ after });
const MIB = 1024 ** 2;

test('within the limits nothing happens (control)', async () => {
  const { end, stdout } = await jail.python('x = bytearray(64 << 20); print(len(x))', {
    limits: { memoryBytes: 128 * MIB },
  });
  assert.deepEqual([end.exitCode, end.killed, stdout], [0, null, '67108864\n']);
  assert(end.maxMemoryBytes! > 64 * MIB && end.maxMemoryBytes! <= 128 * MIB, `peak ${end.maxMemoryBytes}`);
  assert(end.cpuNs! > 0);
});

const routes: [string, string][] = [
  ['the heap', 'x = []\nwhile True: x.append(bytearray(1 << 20))'],
  ['one mapping', 'import mmap\nm = mmap.mmap(-1, 512 << 20)\nfor i in range(0, 512 << 20, 4096): m[i] = 1'],
  ['memfd', 'import os\nf = os.memfd_create("x")\nwhile True: os.write(f, b"x" * 65536)'],
  [
    'many small files',
    `import os
for i in range(10**9):
  os.close(os.open("/tmp/%d" % i, os.O_CREAT | os.O_WRONLY))
  os.mkdir("/dev/shm/%d" % i)`,
  ],
  [
    'many processes',
    `import os, time
for i in range(40):
  if os.fork() == 0:
    x = bytearray(16 << 20)
    for j in range(0, len(x), 4096): x[j] = 1
    time.sleep(30)
os.wait()`,
  ],
  [
    'pipes',
    `import fcntl, os
keep = []
while True:
  r, w = os.pipe()
  fcntl.fcntl(w, 1031, 1 << 20)
  os.set_blocking(w, False)
  keep.append((r, w))
  try:
    while True: os.write(w, b"x" * 65536)
  except BlockingIOError: pass`,
  ],
];

for (const [name, program] of routes) {
  test(`memory by ${name} ends the command, and no other`, async () => {
    const limits = { memoryBytes: 48 * MIB, fileBytes: 1024 * MIB, tmpBytes: 1024 * MIB, wallMs: 60_000 };
    const [greedy, neighbour] = await Promise.all([
      jail.python(program, { limits }),
      jail.bash('sleep 0.3; echo fine'),
    ]);
    assert.equal(greedy.end.killed, 'memory', `${JSON.stringify(greedy.end)} ${greedy.stderr}`);
    assert(greedy.end.maxMemoryBytes! <= 49 * MIB);
    assert.equal(neighbour.stdout, 'fine\n');
  });
}

test('a fork bomb stops at its limit while another call of the same account succeeds', async () => {
  const limits = { pids: 32, wallMs: 1_500, cpuMs: 60_000 };
  const bomb = jail.bash('b() { b | b & }; b; sleep 20', { limits });
  await new Promise((resolve) => setTimeout(resolve, 500));
  const neighbour = await jail.bash('for i in 1 2 3 4 5 6 7 8; do /usr/bin/true; done; echo fine');
  assert.equal(neighbour.stdout, 'fine\n', neighbour.stderr);
  const { end } = await bomb;
  assert(end.killed === 'wall' || end.killed === 'pids', JSON.stringify(end));
});

test('processes and threads are counted together', async () => {
  const program = `import threading, time
n = 0
try:
  for i in range(200): threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); n += 1
except RuntimeError: pass
print(n, flush=True)
import os; os._exit(3)`;
  const { stdout, end } = await jail.python(program, { limits: { pids: 20 } });
  const started = Number(stdout);
  assert(started >= 10 && started < 20, `${started} threads within 20`);
  assert.deepEqual([end.exitCode, end.killed], [3, 'pids'], 'that it ran out of them is told');
});

test('a shell that was refused processes and ended with 0 has them counted', async () => {
  const script = 'for i in {1..30}; do sleep 0.2 & done 2>/dev/null; wait; exit 0';
  const { end } = await jail.bash(script, { limits: { pids: 16 } });
  assert.deepEqual([end.exitCode, end.killed], [0, null]);
  assert((end.pidsRefused ?? 0) > 0, JSON.stringify(end));
});

test('wall time: the command is ended, its output until then delivered', async () => {
  const { end, stdout } = await jail.bash('echo before; sleep 60', { limits: { wallMs: 2_000 } });
  assert.deepEqual([end.killed, end.exitCode, stdout], ['wall', null, 'before\n']);
  assert(end.runNs > 1_950e6 && end.runNs < 40_000e6, `${end.runNs / 1e6} ms`);
});

test('CPU time of all processes together, and of one alone', async () => {
  const many = 'for i in 1 2 3 4; do (while :; do :; done) & done; wait';
  const together = await jail.bash(many, { limits: { cpuMs: 600, wallMs: 60_000 } });
  assert.equal(together.end.killed, 'cpu', JSON.stringify(together.end));
  assert(together.end.cpuNs! < 20_000e6);
  const asleep = await jail.bash('sleep 1', { limits: { cpuMs: 600 } });
  assert.deepEqual([asleep.end.exitCode, asleep.end.killed], [0, null], 'control: sleep costs none');
});

test('one sandbox gets one core', async () => {
  const program =
    'import os, time\nfor i in range(3): os.fork()\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass';
  const { end } = await jail.python(program);
  const cores = end.cpuNs! / end.runNs;
  assert(cores < 1.25, `${cores.toFixed(2)} cores`);
});

test('a flood of output ends the command soon after the limit, and the sink gets exactly the limit', async () => {
  const { end, delivered } = await jail.bash('yes', { limits: { outputBytes: MIB } });
  assert.equal(end.killed, 'output');
  assert.equal(delivered, MIB);
  assert(end.stdoutBytes >= MIB && end.stdoutBytes < 2 * MIB, `${end.stdoutBytes} raw bytes`);
  const both = await jail.bash('yes >&2 & yes', { limits: { outputBytes: 65_536 } });
  assert.deepEqual([both.end.killed, both.delivered], ['output', 65_536]);
});

test('output up to the limit is delivered whole, also to a slow reader', async () => {
  const { end, stdout, delivered } = await jail.python(
    'print("x" * 299999)',
    { limits: { outputBytes: 300_000 } },
    { holdMs: 5 },
  );
  assert.deepEqual([end.exitCode, end.killed, delivered, stdout.length], [0, null, 300_000, 300_000]);
});

test('a sink that is full stops the command from writing', async () => {
  const started = performance.now();
  const { end } = await jail.bash('yes', { limits: { wallMs: 1_000 } }, { holdMs: 200 });
  assert.equal(end.killed, 'wall');
  assert(end.stdoutBytes < 4 * MIB, `${end.stdoutBytes} bytes against a reader of 5 per second`);
  assert(performance.now() - started < 20_000, 'the leftover does not hold up the end');
});

test('files: number, size and the size of a core', async () => {
  const program = `import os
n = 0
try:
  while True: os.open("/dev/null", 0); n += 1
except OSError as e: print(n, e.errno)`;
  assert.equal((await jail.python(program, { limits: { openFiles: 40 } })).stdout, '37 24\n');
  const large = await jail.bash('head -c 3000000 /dev/zero > /tmp/x; echo $?; wc -c < /tmp/x', {
    limits: { fileBytes: MIB },
  });
  assert.match(large.stdout, /^153\n1048576\n$/);
  const killed = await jail.run(['/usr/bin/head', '-c', '3000000', '/dev/zero'], { limits: { fileBytes: MIB } });
  assert.equal(killed.end.exitCode, 0, 'control: output is no file');
  assert.equal((await jail.bash('ulimit -c; ulimit -Hn; ulimit -Hu')).stdout, '0\n256\n65\n');
});

test('the disk hook ends a command whose workspace has grown too large', async () => {
  const { end } = await jail.bash('sleep 20', {}, { diskFullAfterMs: 300 });
  assert.equal(end.killed, 'disk');
  const calm = await jail.bash('sleep 0.6; echo fine', {}, { diskFullAfterMs: 60_000 });
  assert.equal(calm.stdout, 'fine\n');
});

test('input: all of it arrives, and a command that does not read it ends all the same', async () => {
  const stdin = Buffer.alloc(1024 ** 2, 'y');
  const read = await jail.bash('wc -c', { stdin });
  assert.equal(read.stdout, '1048576\n');
  const ignored: HostResult = await jail.bash('echo done', { stdin });
  assert.deepEqual([ignored.stdout, ignored.end.exitCode], ['done\n', 0]);
  assert.equal((await jail.bash('wc -c')).stdout, '0\n', 'none: /dev/null');
});

test('exit codes and signals come through', async () => {
  const code = async (script: string): Promise<(number | string | null)[]> => {
    const { end } = await jail.bash(script);
    return [end.exitCode, end.signal, end.killed, end.setupFailure];
  };
  assert.deepEqual(await code('exit 0'), [0, null, null, null]);
  assert.deepEqual(await code('exit 1'), [1, null, null, null]);
  assert.deepEqual(await code('exit 255'), [255, null, null, null]);
  assert.deepEqual(await code('kill -SEGV $$'), [139, null, null, null]);
  assert.deepEqual(await code('kill -KILL $$'), [137, null, null, null]);
  const absent = await jail.run(['/usr/bin/no-such-program']);
  assert.equal(absent.end.exitCode, 127);
  assert.match(absent.stderr, /no-such-program/);
});
