/** A real mesh for end-to-end tests: `quern up` as a user starts it, on free ports, stopped with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';

const ROOT = join(import.meta.dirname, '..', '..');
const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

export type UpEvent = { event: string; [key: string]: unknown };

export type Mesh = {
  http: string;
  grpc: string;
  child: ChildProcess;
  events: UpEvent[];
  /** Resolves with the first event, past or future, that `matches`. */
  seen: (matches: (event: UpEvent) => boolean, timeoutMs?: number) => Promise<UpEvent>;
  /** SIGTERM; resolves with the exit code. */
  stop: () => Promise<number | null>;
  stderr: () => string;
};

/** Runs `quern` to its end and returns what it said. */
export async function quern(
  args: string[],
  options: { env?: NodeJS.ProcessEnv; input?: string; timeoutMs?: number } = {},
) {
  const child = spawn(process.execPath, [join(ROOT, 'services', 'cli', 'bin.mjs'), ...args], {
    cwd: ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 60_000,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    stdout += piece;
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    stderr += piece;
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** Starts `quern` and leaves it running; for tests that interrupt it. */
export function spawnQuern(args: string[]): ChildProcess {
  return spawn(process.execPath, [join(ROOT, 'services', 'cli', 'bin.mjs'), ...args], { cwd: ROOT, stdio: 'ignore' });
}

/**
 * Starts a mesh with a state folder of its own and waits until it is ready. Without `audit` it keeps no audit log, without `tools`
 * it runs none.
 */
export async function startMesh(
  t: Pick<TestContext, 'after'>,
  options: {
    args?: string[];
    env?: NodeJS.ProcessEnv;
    audit?: boolean;
    traces?: boolean;
    tools?: boolean;
    /** Another checkout, and the words that start its Node; default: this one. */
    from?: { root: string; node: string[] };
  } = {},
): Promise<Mesh> {
  const state = mkdtempSync(join(tmpdir(), 'quern-state-'));
  const audit = options.audit ? [] : ['--no-audit'];
  const tools = options.tools ? [] : ['--no-tools'];
  const traces = options.env?.QUERN_OTLP_ENDPOINT || options.traces ? [] : ['--no-traces'];
  const args = [
    'up',
    '--json',
    '--http',
    '127.0.0.1:0',
    '--grpc',
    '127.0.0.1:0',
    ...audit,
    ...traces,
    ...tools,
    ...(options.args ?? []),
  ];
  const { root, node } = options.from ?? { root: ROOT, node: [process.execPath] };
  const [command = '', ...words] = [...node, join(root, 'services', 'cli', 'bin.mjs'), ...args];
  const child = spawn(command, words, {
    cwd: root,
    env: { ...process.env, QUERN_STATE_DIR: state, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const events: UpEvent[] = [];
  const watchers = new Set<() => void>();
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    stderr += piece;
  });
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    events.push(JSON.parse(line) as UpEvent);
    for (const watcher of watchers) watcher();
  });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const stop = async (): Promise<number | null> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    const kill = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    const [code] = await exited;
    clearTimeout(kill);
    return code;
  };
  t.after(async () => {
    await stop();
    rmSync(state, { recursive: true, force: true });
  });
  const seen = (matches: (event: UpEvent) => boolean, timeoutMs = READY_TIMEOUT_MS): Promise<UpEvent> =>
    new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        finish();
        reject(new Error(`${why}; events: ${JSON.stringify(events)}; stderr: ${stderr}`));
      };
      const timer = setTimeout(() => fail(`no such event within ${timeoutMs} ms`), timeoutMs);
      const onExit = (code: number | null): void => fail(`quern up exited with ${code}`);
      const finish = (): void => {
        clearTimeout(timer);
        watchers.delete(look);
        child.off('exit', onExit);
      };
      const look = (): void => {
        const found = events.find(matches);
        if (found === undefined) return;
        finish();
        resolve(found);
      };
      watchers.add(look);
      child.on('exit', onExit);
      look();
    });
  const ready = await seen(({ event }) => event === 'ready');
  return { http: String(ready.http), grpc: String(ready.grpc), child, events, seen, stop, stderr: () => stderr };
}
