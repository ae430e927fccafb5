// The runs of this gateway that run or can still be read.
import { QuernError } from '#kit/errors.ts';
import { type Principal, principalKey } from '#kit/principal.ts';
import type { AgentRun } from './agent-run.ts';
import { RUNS_MAX, RUNS_PER_PRINCIPAL_MAX } from './limits.ts';

export class AgentRuns {
  readonly #runs = new Map<string, AgentRun>();
  readonly #perPrincipal = new Map<string, number>();
  readonly #bounds: { max: number; perPrincipal: number };

  constructor(bounds: { max?: number; perPrincipal?: number } = {}) {
    this.#bounds = { max: bounds.max ?? RUNS_MAX, perPrincipal: bounds.perPrincipal ?? RUNS_PER_PRINCIPAL_MAX };
  }

  get size(): number {
    return this.#runs.size;
  }

  /** Takes a place for a run that is about to start. Throws RESOURCE_EXHAUSTED. The answer gives it back, once. */
  reserve(principal: Principal): () => void {
    const key = principalKey(principal);
    const own = this.#perPrincipal.get(key) ?? 0;
    const total = [...this.#perPrincipal.values()].reduce((sum, count) => sum + count, 0);
    const full =
      total >= this.#bounds.max
        ? this.#bounds.max
        : own >= this.#bounds.perPrincipal
          ? this.#bounds.perPrincipal
          : null;
    if (full !== null) {
      const message = `${full} agent runs are running or kept for a reader already; wait for one to end, or ask for less linger_ms`;
      throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'TOO_MANY_RUNS', retryAfterMs: 1_000 });
    }
    this.#perPrincipal.set(key, own + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const left = (this.#perPrincipal.get(key) ?? 1) - 1;
      if (left === 0) this.#perPrincipal.delete(key);
      else this.#perPrincipal.set(key, left);
    };
  }

  /** A later run of the same principal and id takes the place of one that has ended. */
  add(run: AgentRun): void {
    this.#runs.set(keyOf(run.options.principal, run.options.runId), run);
  }

  delete(run: AgentRun): void {
    const key = keyOf(run.options.principal, run.options.runId);
    if (this.#runs.get(key) === run) this.#runs.delete(key);
  }

  /** The caller's own run. Throws NOT_FOUND. */
  own(principal: Principal, runId: string): AgentRun {
    return this.#runs.get(keyOf(principal, runId)) ?? notFound(runId);
  }

  /**
   * A run of the caller's tenant, to be answered for: the one whose call waits for this approval, since two users may have
   * chosen one id. Throws NOT_FOUND.
   */
  ofTenant(principal: Principal, runId: string, approvalId: string): AgentRun {
    const found = [...this.#runs.values()].filter(
      ({ options }) => options.runId === runId && options.principal.tenant === principal.tenant,
    );
    return found.find((run) => run.awaits(approvalId)) ?? found[0] ?? notFound(runId);
  }

  /** The run with this instance, while it is there. */
  byInstance(instance: string): AgentRun | null {
    return [...this.#runs.values()].find(({ options }) => options.instance === instance) ?? null;
  }

  /** Ends all. */
  close(): void {
    for (const run of [...this.#runs.values()]) run.close();
  }
}

function keyOf(principal: Principal, runId: string): string {
  return `${principalKey(principal)} ${runId}`;
}

function notFound(runId: string): never {
  const message = `no run "${runId.slice(0, 128)}" of yours is here: it has ended and its linger_ms is over, or it never was`;
  throw new QuernError('NOT_FOUND', message, { reason: 'RUN_NOT_FOUND' });
}
