// The timelines of the running requests and of the last that ended, in memory and bounded. The audit log is for the rest.
import { type Principal, principalKey } from '#kit/principal.ts';
import { EXPLAIN_REQUESTS_MAX } from './limits.ts';
import { RequestTimeline, type TimelineFacts } from './request-timeline.ts';
import { REQUEST_ID } from './typed-request.ts';

function keyOf(principal: Principal, requestId: string): string {
  return `${principalKey(principal)} ${requestId}`;
}

export class ExplainRing {
  /** In order of arrival. */
  readonly #timelines = new Map<string, RequestTimeline>();
  readonly #max: number;

  constructor(options: { max?: number } = {}) {
    this.#max = options.max ?? EXPLAIN_REQUESTS_MAX;
  }

  get size(): number {
    return this.#timelines.size;
  }

  /**
   * `startedMs`: arrival, in performance.now() milliseconds. A request whose id is none, or is that of a running one, is not
   * kept: it is refused.
   */
  begin(facts: TimelineFacts, startedMs: number): RequestTimeline {
    const timeline = new RequestTimeline(facts, startedMs);
    if (!REQUEST_ID.test(facts.requestId)) return timeline;
    const key = keyOf(facts.principal, facts.requestId);
    const earlier = this.#timelines.get(key);
    if (earlier && !earlier.end) return timeline;
    this.#timelines.delete(key); // its place is the newest
    this.#timelines.set(key, timeline);
    if (this.#timelines.size > this.#max) this.#timelines.delete(this.#timelines.keys().next().value as string);
    return timeline;
  }

  /** A request of this caller; for an admin also the newest of that id in the tenant. Null: not known, or not theirs to see. */
  find(principal: Principal, requestId: string): RequestTimeline | null {
    const own = this.#timelines.get(keyOf(principal, requestId));
    if (own || principal.role !== 'admin') return own ?? null;
    const ofTenant = [...this.#timelines.values()].filter(
      ({ facts }) => facts.requestId === requestId && facts.principal.tenant === principal.tenant,
    );
    return ofTenant.at(-1) ?? null;
  }
}
