// Who may come in now. Counts requests and tokens in flight, for the gateway and per principal; sheds the weakest
// classes first. A ticket is the only way in and must be released exactly once.

import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { QuernError } from '#kit/errors.ts';
import { type Principal, principalKey } from '#kit/principal.ts';
import { SHED_RETRY_MS, SPECULATIVE_SHARE, WARM_SHARE } from './limits.ts';

export type AdmissionBounds = {
  requestsMax: number;
  /** Prompt tokens and max_tokens, summed over what is in flight. */
  tokensMax: number;
  principalRequestsMax: number;
  principalTokensMax: number;
};

export type ShedReason = 'requests' | 'tokens' | 'principal_requests' | 'principal_tokens' | 'draining';

type Account = { requests: number; tokens: number };

export type Ticket = {
  /** Adds the request's tokens once they are known. Throws RESOURCE_EXHAUSTED; the ticket must still be released. */
  charge(tokens: number): void;
  /** Idempotent. */
  release(): void;
};

/** Share of a bound that a class may fill. */
function shareOf(priorityClass: PriorityClass): number {
  if (priorityClass >= PriorityClass.PRIORITY_CLASS_WARM) return WARM_SHARE;
  if (priorityClass >= PriorityClass.PRIORITY_CLASS_SPECULATIVE) return SPECULATIVE_SHARE;
  return 1;
}

const EXPLAIN: Record<ShedReason, string> = {
  requests: 'too many requests are in flight on this gateway',
  tokens: 'too many tokens are in flight on this gateway',
  principal_requests: 'too many of your requests are in flight',
  principal_tokens: 'too many of your tokens are in flight',
  draining: 'this gateway is shutting down',
};

/** A refusal with its retry time. */
export function shedError(reason: ShedReason, bound: number): QuernError {
  const message = `${EXPLAIN[reason]} (bound ${bound}); try again in ${SHED_RETRY_MS} ms`;
  const code = reason === 'draining' ? 'UNAVAILABLE' : 'RESOURCE_EXHAUSTED';
  const metadata = { shed_reason: reason, bound: String(bound) };
  return new QuernError(code, message, { reason: 'SHED', metadata, retryAfterMs: SHED_RETRY_MS });
}

/** Invariant: the totals equal the sums over live tickets. */
export class Admission {
  readonly #bounds: AdmissionBounds;
  readonly #onShed: (reason: ShedReason) => void;
  readonly #accounts = new Map<string, Account>();
  readonly #total: Account = { requests: 0, tokens: 0 };
  #closed = false;

  constructor(bounds: AdmissionBounds, onShed: (reason: ShedReason) => void = () => {}) {
    this.#bounds = bounds;
    this.#onShed = onShed;
  }

  get requests(): number {
    return this.#total.requests;
  }

  get tokens(): number {
    return this.#total.tokens;
  }

  get principals(): number {
    return this.#accounts.size;
  }

  /** Refuses all further requests; those inside stay. */
  close(): void {
    this.#closed = true;
  }

  /** Takes one request in, or throws RESOURCE_EXHAUSTED (UNAVAILABLE while draining) with a retry time. */
  admit(principal: Principal, priorityClass: PriorityClass): Ticket {
    const bounds = this.#bounds;
    const share = shareOf(priorityClass);
    const key = principalKey(principal);
    const account = this.#accounts.get(key) ?? { requests: 0, tokens: 0 };
    if (this.#closed) this.#shed('draining', 0);
    if (this.#total.requests >= bounds.requestsMax * share) this.#shed('requests', bounds.requestsMax);
    if (account.requests >= bounds.principalRequestsMax * share) {
      this.#shed('principal_requests', bounds.principalRequestsMax);
    }
    this.#accounts.set(key, account);
    account.requests += 1;
    this.#total.requests += 1;
    return this.#ticket(key, account, share);
  }

  #ticket(key: string, account: Account, share: number): Ticket {
    const bounds = this.#bounds;
    let charged = 0;
    let released = false;
    return {
      charge: (tokens) => {
        if (this.#total.tokens + tokens > bounds.tokensMax * share) this.#shed('tokens', bounds.tokensMax);
        if (account.tokens + tokens > bounds.principalTokensMax * share) {
          this.#shed('principal_tokens', bounds.principalTokensMax);
        }
        charged += tokens;
        account.tokens += tokens;
        this.#total.tokens += tokens;
      },
      release: () => {
        if (released) return;
        released = true;
        account.requests -= 1;
        account.tokens -= charged;
        this.#total.requests -= 1;
        this.#total.tokens -= charged;
        if (account.requests === 0) this.#accounts.delete(key);
      },
    };
  }

  #shed(reason: ShedReason, bound: number): never {
    this.#onShed(reason);
    throw shedError(reason, bound);
  }
}
