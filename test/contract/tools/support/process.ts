/** The tool service as a process, with the real jail, as `quern up` starts it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { TOOLS_MALLOC_ENV, TOOLS_NODE_OPTIONS } from '../../../../services/cli/up/tools-plan.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..', '..');
const MAIN = join(ROOT, 'services', 'tools', 'main.ts');

export type ReadyInfo = { addresses: string[]; tier: string | null; tools: number; missing: string[] };

export type ToolProcess = {
  readonly dir: string;
  readonly address: string;
  readonly info: ReadyInfo;
  readonly child: ChildProcess;
  /** A line of /proc/PID/status, such as "Uid". */
  status(name: string): string;
  /** What it has written to its log. */
  log(): string;
  stop(): Promise<number | null>;
};

/** A folder that the account which the service becomes may enter. */
export function openFolder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-tools-'));
  chmodSync(dir, 0o755);
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Tools of the test: YAML by file name. */
export function writePacks(dir: string, packs: Readonly<Record<string, string>>): string {
  const folder = join(dir, 'packs');
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  for (const [name, text] of Object.entries(packs)) writeFileSync(join(folder, name), text, { mode: 0o644 });
  chmodSync(folder, 0o755);
  return folder;
}

export async function startProcess(
  t: TestContext,
  options: { dir?: string; env?: Record<string, string> } = {},
): Promise<ToolProcess> {
  const dir = options.dir ?? openFolder(t);
  let log = '';
  const child = spawn(process.execPath, [...TOOLS_NODE_OPTIONS, MAIN], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(ROOT, '.cache', 'node-compile'),
      ...TOOLS_MALLOC_ENV,
      QUERN_TOOLS_DIR: join(dir, 'tools'),
      QUERN_TOOLS_LISTEN: `unix:///tmp/${dir.split('/').at(-1)}-run/tools.sock`,
      QUERN_AUDIT_KEY_DIR: join(dir, 'keys'),
      QUERN_NATS_URL: 'nats://127.0.0.1:1',
      ...options.env,
    },
  });
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
  }
  t.after(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const ready = new Promise<ReadyInfo>((resolve) => {
    child.on('message', (message: { type: string } & ReadyInfo) => {
      if (message.type === 'ready') resolve(message);
    });
  });
  const info = await Promise.race([
    ready,
    exited.then(([code]) => {
      throw new Error(`the service ended with ${code}: ${log}`);
    }),
  ]);
  return {
    dir,
    address: info.addresses[0]!,
    info,
    child,
    status: (name) =>
      new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? '',
    log: () => log,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      const [code] = await exited;
      return code;
    },
  };
}

/** Runs `quern tools ...` to its end. */
export async function quernTools(
  args: readonly string[],
  address: string,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(
    process.execPath,
    [join(ROOT, 'services', 'cli', 'main.ts'), 'tools', ...args, '--address', address],
    {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}
