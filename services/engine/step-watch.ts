// Health from a real heartbeat: work that waits must see a step finish within a bounded time.

export type StepWatch = {
  /** One look at the engine. True: healthy. */
  look(now_ms: number, load: { running: number; waiting: number; steps: number }): boolean;
};

/** Unhealthy once work was there for `stallMs` without a finished step between two looks. */
export function createStepWatch(stallMs: number): StepWatch {
  let steps = -1;
  let quietSince: number | null = null;
  return {
    look(now_ms, load) {
      const moved = load.steps !== steps;
      steps = load.steps;
      if (moved || load.running + load.waiting === 0) {
        quietSince = null;
        return true;
      }
      quietSince ??= now_ms;
      return now_ms - quietSince < stallMs;
    },
  };
}
