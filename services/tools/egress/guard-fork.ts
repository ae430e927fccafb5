// Starts the processes that touch the outside: without environment, able to read their own code and nothing else.
import { type ChildProcess, fork } from 'node:child_process';
import { dirname, resolve } from 'node:path';

const SERVICES = resolve(import.meta.dirname, '../..');
/** Node asks the system's resolver for names, which reads these itself. */
const READABLE = [
  SERVICES,
  resolve(SERVICES, '../package.json'),
  '/etc/resolv.conf',
  '/etc/hosts',
  '/etc/nsswitch.conf',
];

/** `program`: an absolute path; it may read its folder. It ends when its channel to this process does. */
export function forkGuard(program: string): ChildProcess {
  return fork(program, {
    env: {},
    execArgv: [
      '--permission',
      ...[...READABLE, dirname(program)].map((path) => `--allow-fs-read=${path}`),
      '--max-old-space-size=128',
      '--no-warnings',
    ],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
}

/** Ends it and waits until it is gone. */
export async function endGuard(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((done) => child.once('exit', done));
  child.kill('SIGKILL');
  await exited;
}
