/** How far a scenario is, on standard error: at a terminal a bar, elsewhere a line every few seconds. */
import type { Io } from '../command.ts';

const EVERY_MS = 5_000;
const BAR_COLUMNS = 30;

export type Progress = {
  /** The load begins: what came before warmed it up. */
  begin(): void;
  /** One more request has ended. */
  step(): void;
  /** Nothing more is told; the bar goes. */
  end(): void;
};

/** `what`: "qa over grpc". `now` in milliseconds, for tests. */
export function startProgress(
  { stderr }: Pick<Io, 'stderr'>,
  what: string,
  total: number,
  now = (): number => performance.now(),
): Progress {
  const started = now();
  let done: number | null = null;
  const tell = (): void => {
    const seconds = Math.round((now() - started) / 1000);
    const far = done === null ? 'warming up' : `${done} of ${total} requests`;
    stderr.write(`${what}: ${far} after ${seconds} s\n`);
  };
  const timer = stderr.isTTY ? undefined : setInterval(tell, EVERY_MS);
  return {
    begin() {
      done = 0;
    },
    step() {
      done = (done ?? 0) + 1;
      if (!stderr.isTTY) return;
      const filled = Math.round((done / total) * BAR_COLUMNS);
      stderr.write(`\r[${'#'.repeat(filled)}${'.'.repeat(BAR_COLUMNS - filled)}] ${done}/${total}`);
    },
    end() {
      clearInterval(timer);
      if (stderr.isTTY) stderr.write('\r\u001b[K');
    },
  };
}
