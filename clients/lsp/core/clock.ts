/** Time as the core sees it; tests hand in one that they turn by hand. */
export type Clock = {
  /** Milliseconds that never go back. */
  now(): number;
  /** Calls `run` once after `ms` milliseconds; the answer cancels it. */
  after(ms: number, run: () => void): () => void;
};

/** The process's or worker's own time. Its timers do not keep a process alive where they need not. */
export const realClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};
