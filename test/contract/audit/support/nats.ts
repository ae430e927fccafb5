// A real nats-server for tests, on a free port with a folder of its own. Where none can be had the test fails and says so.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { undo } from './undo.ts';

const SETUP = fileURLToPath(new URL('../../../../scripts/setup/nats-server.mjs', import.meta.url));

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

export type TestNats = {
  readonly url: string;
  readonly dir: string;
  /** SIGKILL; resolves when it has gone. */
  kill(): Promise<void>;
  /** SIGSTOP and SIGCONT. */
  pause(): void;
  resume(): void;
  /** The same port and folder. */
  start(): Promise<void>;
};

/** Where a nats-server that is new enough lies. */
export async function natsPath(): Promise<string> {
  const setup = (await import(SETUP)) as { findNatsServer(): Promise<string | null> };
  const path = await setup.findNatsServer();
  if (path) return path;
  throw new Error('no nats-server of 2.14 or newer: `node scripts/get-nats.mjs` builds one, or put one on PATH');
}

export async function startNats(t: Pick<TestContext, 'after'>): Promise<TestNats> {
  const path = await natsPath();
  const dir = await mkdtemp(join(tmpdir(), 'quern-nats-'));
  const port = await freePort();
  let child: ChildProcess | null = null;

  async function start(): Promise<void> {
    child = spawn(path, ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', dir], { stdio: 'pipe' });
    const output: string[] = [];
    child.stderr?.on('data', (chunk: Buffer) => void output.push(chunk.toString()));
    for (let i = 0; i < 400; i += 1) {
      if (output.join('').includes('Server is ready')) return;
      if (child.exitCode !== null) break;
      await sleep(25);
    }
    throw new Error(`nats-server did not become ready:\n${output.join('')}`);
  }

  async function kill(): Promise<void> {
    const running = child;
    child = null;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    running.kill('SIGKILL');
    await once(running, 'exit');
  }

  await start();
  undo(t, async () => {
    await kill();
    await rm(dir, { recursive: true, force: true });
  });
  return {
    url: `nats://127.0.0.1:${port}`,
    dir,
    kill,
    start,
    pause: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
  };
}
