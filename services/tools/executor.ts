// The calls of this process: those that run, and for a while those that have ended. One execution per idempotency key, one call per
// id; a call lives as long as somebody listens to it.
import { hash } from 'node:crypto';
import { type ExecuteResponse, Outcome, Result } from '#gen/quern/tools/v1/tools.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { CallEvents, EventOut } from './call-events.ts';
import type { CallEnd, CallFacts, KeyState } from './call-journal.ts';
import { type CallRequest, type ExecutionParts, ownerDigest } from './call-request.ts';
import { Execution } from './execution.ts';
import { ENDED_CALLS_KEPT_BYTES_MAX, ENDED_CALLS_KEPT_MAX, ENDED_CALLS_KEPT_MS, KILL_SETTLE_MS } from './limits.ts';
import { OUTCOME_WORDS, type OutcomeWord, type StopCause } from './outcome.ts';

/** Who may attach to a call and cancel it. */
export type Owner = { tenant: string; user: string };

/** A call by its id: while it runs, and then what is kept of it, which is not its arguments. */
type KnownCall = {
  readonly user: string;
  readonly events: CallEvents;
  readonly result: Promise<Result>;
  /** Null: it has ended. */
  readonly running: Execution | null;
  readonly endedMs: number;
};

const UNKNOWN_MESSAGE =
  'the service ended while this call ran, so nobody knows how far it came; look at its effects before you call again with another key';

const idOf = (tenant: string, callId: string): string => `${tenant}\0${callId}`;

/** The digest by which a key is known: a key of one user means nothing to another. */
export function keyDigest({ tenant, user }: Owner, key: string): string {
  return key === '' ? '' : hash('sha256', JSON.stringify([tenant, user, key]), 'hex');
}

/** What a call was whose end nobody saw. */
export function unknownResult(): Result {
  return {
    outcome: Outcome.OUTCOME_UNKNOWN,
    message: UNKNOWN_MESSAGE,
    exitCode: undefined,
    signal: '',
    content: UNKNOWN_MESSAGE,
    contentCut: false,
    structuredJson: '',
    usage: { setupNs: 0n, runNs: 0n, cpuNs: 0n, maxMemoryBytes: 0n, stdoutBytes: 0n, stderrBytes: 0n },
    taint: { readUntrusted: true, hasPrivate: true, canExfiltrate: true }, // it may have done anything that it could
    replayed: false,
  };
}

/** What a call gave, or that it ended where its result had to go to make room. */
function resultOf({ outcome, result }: CallEnd): Result {
  if (result !== null) return Result.decode(Buffer.from(result, 'base64'));
  const word = Object.hasOwn(OUTCOME_WORDS, outcome) ? (outcome as OutcomeWord) : 'unknown';
  const message = `it has run and ended as "${word}"; its result is not kept any more, and it is not run again under this key`;
  return { ...unknownResult(), outcome: OUTCOME_WORDS[word], message, content: message };
}

function reused(): QuernError {
  const message =
    'idempotency_key: this key stands for another call (tool, arguments, stdin or session differ); use a new one';
  return new QuernError('ALREADY_EXISTS', message, { reason: 'IDEMPOTENCY_KEY_REUSED' });
}

/** Why the stream of a call broke, as the reason of its end. */
function causeOf(signal: AbortSignal): StopCause {
  const { code, details } = toQuernError(signal.reason);
  if (code === 'DEADLINE_EXCEEDED') return 'deadline';
  return details.reason === 'DRAINING' ? 'drain' : 'cancelled';
}

export class Executor {
  readonly #parts: ExecutionParts;
  readonly #calls = new Map<string, KnownCall>();
  readonly #byKey = new Map<string, Execution>();
  /** Streams that wait for the result of another call with their key. */
  readonly #joined = new Map<Execution, number>();
  /** Calls that the end of an earlier process took, by id. */
  readonly #lost: ReadonlyMap<string, CallFacts>;
  #draining = false;

  constructor(parts: ExecutionParts, lost: readonly CallFacts[] = []) {
    this.#parts = parts;
    this.#lost = new Map(lost.map((facts) => [idOf(facts.tenant, facts.callId), facts]));
  }

  /** Calls that have not ended. */
  get live(): number {
    let count = 0;
    for (const { running } of this.#calls.values()) if (running) count += 1;
    return count;
  }

  get eventBytes(): number {
    let bytes = 0;
    for (const { events } of this.#calls.values()) bytes += events.bytes;
    return bytes;
  }

  /**
   * Runs a call and hands on its events, the Result last. When the stream breaks and nobody else listens, the call ends. Throws
   * ALREADY_EXISTS for a call id or a key that means another call, RESOURCE_EXHAUSTED and UNAVAILABLE when it cannot be taken.
   */
  async execute(request: CallRequest, out: EventOut, signal: AbortSignal): Promise<void> {
    const { audit, journal } = this.#parts;
    const { key, requestSha } = request;
    if (this.#draining) {
      throw new QuernError('UNAVAILABLE', 'the tool service is stopping; call again', { reason: 'DRAINING' });
    }
    if (!audit.serving || journal.hasFailed) {
      const message = 'no tool runs: its call could not be recorded; see the log of the tool service';
      throw new QuernError('UNAVAILABLE', message, { reason: 'AUDIT_UNAVAILABLE' });
    }
    const first = key === '' ? undefined : this.#byKey.get(key);
    if (first) {
      if (first.request.requestSha !== requestSha) throw reused();
      return this.#join(first, out, signal);
    }
    const known = key !== '' && journal.has(key) ? await journal.find(key) : null;
    if (known) return this.#replay(known, requestSha, out);
    const call = this.#begin(request);
    await this.#follow(call, 0n, out, signal);
  }

  /** Goes on with a call's events. Throws NOT_FOUND, OUT_OF_RANGE. */
  async attach(owner: Owner, callId: string, after: bigint, out: EventOut, signal: AbortSignal): Promise<void> {
    const call = this.#find(owner, callId);
    if (!call && this.#lost.get(idOf(owner.tenant, callId))?.owner === ownerDigest(owner)) {
      this.#hand(unknownResult(), out, after + 1n);
      return;
    }
    if (!call) {
      const limits = `${ENDED_CALLS_KEPT_MS / 1000} s after their end, the newest ${ENDED_CALLS_KEPT_BYTES_MAX / 2 ** 20} MiB of them`;
      const message = `call_id: no call "${callId}" of this user is kept; calls are kept for ${limits}`;
      throw new QuernError('NOT_FOUND', message, { reason: 'TOOL_CALL_UNKNOWN' });
    }
    await this.#follow(call, after, out, signal);
  }

  /** Answers whether it was running. */
  cancel(owner: Owner, callId: string): boolean {
    const call = this.#find(owner, callId);
    call?.running?.stop('cancelled');
    return call?.running != null;
  }

  /** Refuses what is new; ends what has not begun, and what has after the grace. Resolves when nothing runs. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    const live = [...this.#calls.values()].flatMap(({ running }) => running ?? []);
    for (const call of live) if (!call.hasPlace) call.stop('drain');
    await this.#settled(live, graceMs);
    for (const call of live) call.stop('drain');
    await this.#settled(live, KILL_SETTLE_MS);
  }

  /** Forgets ended calls past their time. */
  sweep(): void {
    const ended = [...this.#calls].filter(([, { running }]) => running === null);
    let bytes = ended.reduce((sum, [, { events }]) => sum + events.bytes, 0); // what runs has its own bound, and takes nothing from them
    let count = ended.length;
    for (const [id, { endedMs, events }] of ended) {
      const isOld = performance.now() - endedMs > ENDED_CALLS_KEPT_MS;
      if (!isOld && count <= ENDED_CALLS_KEPT_MAX && bytes <= ENDED_CALLS_KEPT_BYTES_MAX) break;
      if (events.readers > 0) continue;
      this.#calls.delete(id);
      count -= 1;
      bytes -= events.bytes;
    }
  }

  #begin(request: CallRequest): KnownCall {
    const { caller, callId, key } = request;
    const id = idOf(caller.tenant, callId);
    if (this.#calls.has(id) || this.#lost.has(id)) {
      const message = `call_id: "${callId}" is another call's already; attach to it, or use a new id`;
      throw new QuernError('ALREADY_EXISTS', message, { reason: 'TOOL_CALL_EXISTS' });
    }
    const running = new Execution(this.#parts, request);
    const { events, result } = running;
    const call: KnownCall = { user: caller.user, events, result, running, endedMs: 0 };
    this.#calls.set(id, call);
    if (key !== '') this.#byKey.set(key, running);
    const { user } = caller;
    const done = (): void => {
      if (key !== '') this.#byKey.delete(key);
      this.#calls.delete(id); // and last again: the map is in the order in which calls ended
      this.#calls.set(id, { user, events, result, running: null, endedMs: performance.now() });
      this.sweep();
    };
    const refused = (): void => {
      if (key !== '') this.#byKey.delete(key);
      this.#calls.delete(id); // nothing of it is kept: the caller may send it again
    };
    result.then(done, refused);
    return call;
  }

  #find({ tenant, user }: Owner, callId: string): KnownCall | null {
    const call = this.#calls.get(idOf(tenant, callId));
    return call && call.user === user ? call : null;
  }

  /** Throws what the call was refused with. */
  async #follow(
    { events, result, running }: KnownCall,
    after: bigint,
    out: EventOut,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await events.follow(after, out, signal);
    } finally {
      if (running) this.#leave(running, signal);
    }
    await result;
  }

  /** A second call with the key of one that runs. */
  async #join(call: Execution, out: EventOut, signal: AbortSignal): Promise<void> {
    const { promise: gone, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(signal.reason);
    this.#joined.set(call, (this.#joined.get(call) ?? 0) + 1);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    try {
      this.#hand(await Promise.race([call.result, gone]), out);
    } finally {
      signal.removeEventListener('abort', onAbort);
      const rest = (this.#joined.get(call) ?? 1) - 1;
      if (rest > 0) this.#joined.set(call, rest);
      else this.#joined.delete(call);
      this.#leave(call, signal);
    }
  }

  /** A call to which nobody listens any more ends. */
  #leave(call: Execution, signal: AbortSignal): void {
    if (call.endedMs !== null || call.events.readers > 0 || this.#joined.has(call)) return;
    call.stop(signal.aborted ? causeOf(signal) : 'cancelled');
  }

  #replay(known: KeyState, requestSha: string, out: EventOut): void {
    if (known.facts.requestSha !== requestSha) throw reused();
    this.#hand(known.kind === 'ended' ? resultOf(known.end) : unknownResult(), out);
  }

  #hand(result: Result, out: EventOut, sequence = 1n): void {
    this.#parts.metrics.replayed();
    const event: ExecuteResponse = { sequence, event: { $case: 'result', value: { ...result, replayed: true } } };
    out.write(event);
  }

  async #settled(calls: readonly Execution[], limitMs: number): Promise<void> {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, limitMs);
    await Promise.race([Promise.allSettled(calls.map(({ result }) => result)), over]);
    clearTimeout(timer);
  }
}

/** Ends in the journal what was running when the last process ended: its key means "unknown" from now on. */
export async function endLost({ journal }: Pick<ExecutionParts, 'journal'>, lost: readonly CallFacts[]): Promise<void> {
  const result = Buffer.from(Result.encode(unknownResult()).finish()).toString('base64');
  await Promise.all(
    lost.map((facts) => journal.end(facts, { outcome: 'unknown', result: facts.key === '' ? null : result })),
  );
}
