// Drain: refuses new work and reports what remains until nothing does, or until the grace ends and the rest is cancelled.
import { setTimeout as sleep } from 'node:timers/promises';
import type { DrainRequest, DrainResponse } from '#gen/quern/engine/v1/engine.ts';
import { QuernError, throwIfAborted } from '#kit/errors.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import type { EngineContext } from '../context.ts';
import { DRAIN_GRACE_MAX_MS, DRAIN_POLL_MS } from '../limits.ts';

export async function drain(
  context: EngineContext,
  { graceMs }: DrainRequest,
  call: CallContext,
  out: Out<DrainResponse>,
): Promise<void> {
  if (graceMs > DRAIN_GRACE_MAX_MS) {
    const description = `expected 0 to ${DRAIN_GRACE_MAX_MS}, got ${graceMs}`;
    throw new QuernError('INVALID_ARGUMENT', `grace_ms: ${description}`, {
      fields: [{ field: 'grace_ms', description }],
    });
  }
  context.startDrain();
  const endMs = context.now_ms() + graceMs;
  let told = -1;
  let cancelled = false;
  for (;;) {
    const { running, waiting } = context.native.load();
    const remaining = running + waiting;
    if (remaining !== told && !out.write({ remaining })) await out.drained();
    told = remaining;
    if (remaining === 0) return;
    if (!cancelled && context.now_ms() >= endMs) {
      context.streams.cancelAll(
        new QuernError('UNAVAILABLE', 'the engine drained and the grace is over; resume on another replica', {
          reason: 'DRAINING',
        }),
      );
      cancelled = true;
    }
    const wait = Math.min(DRAIN_POLL_MS, Math.max(1, endMs - context.now_ms()));
    await sleep(cancelled ? 5 : wait, undefined, { signal: call.signal }).catch(() => throwIfAborted(call.signal));
  }
}
