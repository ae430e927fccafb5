/** What is asked before new settings are with the server would be cancelled by them: the status bar thinks until then. */
import type { StatusBar } from './status-bar.ts';

/** A server that has not asked for its settings by then (another one than ours, or a busy one) is not waited for. */
export const PULL_MS_MAX = 5_000;

export class SettingsPulls {
  readonly #status: StatusBar;
  readonly #ends = new Set<() => void>();

  constructor(status: StatusBar) {
    this.#status = status;
  }

  expect(): void {
    const ended = this.#status.wait();
    const timer = setTimeout(() => end(), PULL_MS_MAX);
    const end = (): void => {
      clearTimeout(timer);
      this.#ends.delete(end);
      ended();
    };
    this.#ends.add(end);
  }

  async answer<T>(read: () => Promise<T>): Promise<T> {
    const settings = await read();
    setTimeout(() => this.end(), 0); // what is sent from then on comes behind the answer
    return settings;
  }

  /** The server has what it asked for, or is gone. */
  end(): void {
    for (const end of [...this.#ends]) end();
  }
}
