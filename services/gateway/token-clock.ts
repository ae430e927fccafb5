// When a request's tokens come: time to the first, then between steps.
import type { TraceContext } from '#kit/trace.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';

export class TokenClock {
  readonly #metrics: GatewayMetrics;
  readonly #startedAt: number;
  readonly #trace: TraceContext;
  #firstAt = 0;
  #lastAt = 0;
  #observe: ((seconds: number) => void) | null = null;

  /** `startedAt`: arrival of the request, in performance.now() milliseconds. */
  constructor(metrics: GatewayMetrics, startedAt: number, trace: TraceContext) {
    this.#metrics = metrics;
    this.#startedAt = startedAt;
    this.#trace = trace;
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** From the first token to the last so far; 0 before the second. */
  get decodeSeconds(): number {
    return (this.#lastAt - this.#firstAt) / 1000;
  }

  /** A step brought tokens. True for the first. */
  step(model: string): boolean {
    const first = this.#observe === null;
    const now = performance.now();
    if (this.#observe) {
      this.#observe((now - this.#lastAt) / 1000);
    } else {
      this.#metrics.firstToken(model, (now - this.#startedAt) / 1000, this.#trace);
      this.#firstAt = now;
      this.#observe = this.#metrics.interToken(model);
    }
    this.#lastAt = now;
    return first;
  }
}
