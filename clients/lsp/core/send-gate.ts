/** When nothing is sent: after a failure the mesh is left alone for a while, and typing is answered at once. */
import type { Clock } from './clock.ts';
import type { FailureKind } from './infill-source.ts';
import { OFFLINE_RETRY_MAX_MS, OFFLINE_RETRY_MIN_MS } from './limits.ts';
import type { Reason } from './reasons.ts';

/** Failures that the next request would meet as well. */
const LASTING: Partial<Record<FailureKind, Reason>> = {
  offline: 'OFFLINE',
  overloaded: 'OVERLOADED',
  unauthenticated: 'UNAUTHENTICATED',
  no_fim: 'MODEL_NO_FIM',
};

export class SendGate {
  readonly #clock: Clock;
  #reason: Reason | null = null;
  #until = 0;
  #waitMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Why nothing may be sent now; null: it may. */
  get closed(): Reason | null {
    return this.#clock.now() < this.#until ? this.#reason : null;
  }

  /** `retryAfterMs` is the mesh's own word, and counts where there is one. */
  failed(kind: FailureKind, retryAfterMs: number | null = null): void {
    const reason = LASTING[kind];
    if (reason === undefined) return;
    if (retryAfterMs === null)
      this.#waitMs = Math.min(OFFLINE_RETRY_MAX_MS, Math.max(OFFLINE_RETRY_MIN_MS, this.#waitMs * 2));
    this.#reason = reason;
    this.#until = this.#clock.now() + Math.min(OFFLINE_RETRY_MAX_MS, retryAfterMs ?? this.#waitMs);
  }

  /** The mesh answered, or its address or key is new. */
  reset(): void {
    this.#reason = null;
    this.#until = 0;
    this.#waitMs = 0;
  }
}
