// Lets go of what is past its time, now and then.
import type { Log } from '#kit/log.ts';
import type { AuditConfig } from './config.ts';
import type { Ledger } from './ledger.ts';
import { RETENTION_LOOK_MS } from './limits.ts';
import type { Projection } from './projection.ts';
import { ageOut } from './retention.ts';
import type { RetentionClock } from './retention-clock.ts';

const DAY_MS = 24 * 3_600_000;

export type Aged = { ledger: Ledger; projection: Projection };

/** Looks at once, and then every hour. Answers what ends it. */
export function keepAgeing(
  { ledger, projection }: Aged,
  { clock, config, log }: { clock: RetentionClock; config: AuditConfig; log: Log },
): () => Promise<void> {
  const age = async (): Promise<void> => {
    const now = await clock.look();
    const before = new Date(now.getTime() - config.retentionDays * DAY_MS);
    const segments = await ageOut(ledger, projection, { before, now });
    if (segments > 0) log.info({ segments, before }, 'records past their retention are gone');
  };
  let ageing: Promise<unknown> = Promise.resolve();
  const look = (): void => {
    ageing = ageing
      .then(age)
      .catch((error: unknown) => log.error({ err: error }, 'records past their retention could not be let go'));
  };
  look();
  const timer = setInterval(look, RETENTION_LOOK_MS);
  return async () => {
    clearInterval(timer);
    await ageing;
  };
}
