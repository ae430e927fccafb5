// What a run may use, its nested runs included, and what each level of it has used.
import { setImmediate } from 'node:timers/promises';
import type { Usage } from '#gen/quern/common/v1/common.ts';
import type { AgentLimits } from '#gen/quern/gateway/v1/agent.ts';
import type { FieldViolation } from '#kit/errors.ts';
import { type LimitName, RUN_LIMITS } from './limits.ts';

export type RunLimits = Readonly<Record<LimitName, number>>;

type GivenLimits = { readonly [name in LimitName]?: number | undefined };

function given(limits: AgentLimits | undefined): GivenLimits {
  return {
    turns: limits?.turns,
    calls: limits?.calls,
    calls_per_turn: limits?.callsPerTurn,
    depth: limits?.depth,
    wall_ms: limits?.wallMs,
    tokens: limits?.tokens,
    result_bytes: limits?.resultBytes,
  };
}

/** Limits with everything set, and the fields that ask for too much or too little. */
export function resolveLimits(asked: AgentLimits | undefined): { limits: RunLimits; fields: FieldViolation[] } {
  const fields: FieldViolation[] = [];
  const wanted = given(asked);
  const entries = Object.entries(RUN_LIMITS).map(([key, { min, usual, max }]): [string, number] => {
    const value = wanted[key as LimitName] ?? usual;
    if (value < min || value > max) {
      fields.push({ field: `limits.${key}`, description: `expected ${min}..${max}, got ${value}` });
    }
    return [key, value];
  });
  return { limits: Object.fromEntries(entries) as Record<LimitName, number>, fields };
}

export function limitsMessage(limits: RunLimits): AgentLimits {
  return {
    turns: limits.turns,
    calls: limits.calls,
    callsPerTurn: limits.calls_per_turn,
    depth: limits.depth,
    wallMs: limits.wall_ms,
    tokens: limits.tokens,
    resultBytes: limits.result_bytes,
  };
}

export type TokenReserve = { readonly tokens: number; giveBack(): void };

/** Shared by all levels of a run. What a run below another one uses is used up there too. */
export class RunBudget {
  readonly limits: RunLimits;
  readonly #above: RunBudget | null;
  #turns = 0;
  #calls = 0;
  #tokens = 0;
  /** Of turns that have not ended. */
  #reserved = 0;
  #resultBytes = 0;
  /** At the topmost budget: turns that want tokens, and what wakes those that found none. */
  #wanting = 0;
  #wake = Promise.withResolvers<void>();

  constructor(limits: RunLimits, above: RunBudget | null = null) {
    this.limits = limits;
    this.#above = above;
  }

  get turnsLeft(): number {
    return Math.max(0, Math.min(this.limits.turns - this.#turns, this.#above?.turnsLeft ?? Number.POSITIVE_INFINITY));
  }

  get callsLeft(): number {
    return Math.max(0, Math.min(this.limits.calls - this.#calls, this.#above?.callsLeft ?? Number.POSITIVE_INFINITY));
  }

  get tokensLeft(): number {
    return Math.max(
      0,
      Math.min(this.limits.tokens - this.#tokens, this.#above?.tokensLeft ?? Number.POSITIVE_INFINITY),
    );
  }

  /** Tokens that no turn holds. */
  get #free(): number {
    const own = this.limits.tokens - this.#tokens - this.#reserved;
    return Math.max(0, Math.min(own, this.#above ? this.#above.#free : Number.POSITIVE_INFINITY));
  }

  get #top(): RunBudget {
    return this.#above ? this.#above.#top : this;
  }

  /**
   * Tokens that a turn may make, until it gives them back: an equal share for each of the turns that begin at the same time, so
   * that side by side they make no more than one could. While other turns hold all that is left it waits for the first to end.
   * 0: none are left. Throws the signal's reason.
   */
  async reserveTokens({ signal }: { signal: AbortSignal }): Promise<TokenReserve> {
    const top = this.#top;
    top.#wanting += 1;
    try {
      await setImmediate(); // calls of one turn begin one after the other
      for (;;) {
        signal.throwIfAborted();
        if (this.tokensLeft === 0) return { tokens: 0, giveBack: () => {} };
        if (this.#free > 0) break;
        await woken(top.#wake.promise, signal);
      }
      const tokens = Math.max(1, Math.floor(this.#free / top.#wanting));
      this.#hold(tokens);
      let held = true;
      const giveBack = (): void => {
        if (held) this.#hold(-tokens);
        held = false;
        top.#wake.resolve();
        top.#wake = Promise.withResolvers();
      };
      return { tokens, giveBack };
    } finally {
      top.#wanting -= 1;
    }
  }

  #hold(tokens: number): void {
    this.#reserved += tokens;
    if (this.#above) this.#above.#hold(tokens);
  }

  get resultBytesLeft(): number {
    const own = this.limits.result_bytes - this.#resultBytes;
    return Math.max(0, Math.min(own, this.#above?.resultBytesLeft ?? Number.POSITIVE_INFINITY));
  }

  /** The bound that forbids another turn; null: it is taken. */
  takeTurn(): LimitName | null {
    if (this.turnsLeft === 0) return 'turns';
    if (this.tokensLeft === 0) return 'tokens';
    this.#turns += 1;
    this.#above?.takeTurn();
    return null;
  }

  takeCall(): boolean {
    if (this.callsLeft === 0) return false;
    this.#calls += 1;
    this.#above?.takeCall();
    return true;
  }

  /** Bytes of a result that the model may get, at most `wanted`. */
  takeResultBytes(wanted: number): number {
    const taken = Math.min(wanted, this.resultBytesLeft);
    this.#resultBytes += taken;
    this.#above?.takeResultBytes(taken);
    return taken;
  }

  spendTokens(usage: Usage): void {
    this.#tokens += usage.promptTokens + usage.completionTokens;
    this.#above?.spendTokens(usage);
  }
}

async function woken(wake: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const onAbort = (): void => resolve();
  signal.addEventListener('abort', onAbort, { once: true });
  await Promise.race([wake, promise]);
  signal.removeEventListener('abort', onAbort);
}

/** What one level of a run has used, those below it included. */
export class RunAccount {
  turns = 0;
  calls = 0;
  readonly usage: Usage = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 };
  readonly #above: RunAccount | null;

  constructor(above: RunAccount | null) {
    this.#above = above;
  }

  countTurn(): void {
    this.turns += 1;
    this.#above?.countTurn();
  }

  countCall(): void {
    this.calls += 1;
    this.#above?.countCall();
  }

  countTokens(usage: Usage): void {
    this.usage.promptTokens += usage.promptTokens;
    this.usage.cachedTokens += usage.cachedTokens;
    this.usage.completionTokens += usage.completionTokens;
    this.#above?.countTokens(usage);
  }
}
