/** How far an evaluation is, on a terminal; nothing elsewhere. */
import type { Io } from '../command.ts';

const FIRST = 5;

/** "3 min" of what is left, by the pace so far. */
export function timeLeft(done: number, left: number, elapsedMs: number): string {
  const seconds = Math.ceil(((elapsedMs / done) * left) / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}

/** `before`: what an earlier run did of `all`. */
export function progressOn({ stderr }: Io, before: number, all: number) {
  const started = performance.now();
  let done = 0;
  return {
    step(): void {
      done++;
      if (!stderr.isTTY) return;
      const left = all - before - done;
      const pace = done < FIRST ? '' : `, about ${timeLeft(done, left, performance.now() - started)} left`;
      stderr.write(`\r\u001b[K${before + done} of ${all} holes${pace}`);
    },
    clear(): void {
      if (stderr.isTTY) stderr.write('\r\u001b[K');
    },
  };
}
