// A child process that appends to one witness, started with the first lines and again after it died.
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const WRITER = fileURLToPath(new URL('./witness-writer.ts', import.meta.url));

export class WitnessProcess {
  readonly #path: string;
  #child: ChildProcess | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** Resolves when the lines are on the witness's disk. One call at a time. */
  append(lines: string): Promise<void> {
    const child = this.#running();
    return new Promise((resolve, reject) => {
      const done = (error: Error | null): void => {
        child.off('message', onAnswer);
        child.off('exit', onExit);
        child.off('error', done);
        if (error) reject(error);
        else resolve();
      };
      const onAnswer = (answer: unknown): void => {
        const { error } = answer as { error: { message: string; code: string } | null };
        done(error && Object.assign(new Error(error.message), { code: error.code }));
      };
      const onExit = (): void => done(new Error('the process that writes to the witness has died'));
      child.on('message', onAnswer);
      child.on('exit', onExit);
      child.on('error', done);
      child.send({ lines }, (error) => error && done(error));
    });
  }

  #running(): ChildProcess {
    if (this.#child?.connected) return this.#child;
    // It is told its path and nothing else: none of our secrets.
    const child = fork(WRITER, [this.#path], { env: {}, execArgv: [], stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    child.on('error', () => {}); // whoever appends hears of it
    this.#child = child;
    return child;
  }

  /** At once, whatever it does: SIGKILL ends also a process that hangs in a call, or lets it go when the call returns. */
  close(): void {
    const child = this.#child;
    this.#child = null;
    if (!child) return;
    child.kill('SIGKILL');
    if (child.connected) child.disconnect();
    child.unref();
  }
}
