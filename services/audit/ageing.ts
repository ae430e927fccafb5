// Lets go of what is past its time, now and then.
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import type { Log } from '#kit/log.ts';
import type { Metrics } from '#kit/metrics.ts';
import type { CheckpointWriter } from './checkpoints.ts';
import type { AuditConfig } from './config.ts';
import type { Ledger } from './ledger.ts';
import { RETENTION_LOOK_MS } from './limits.ts';
import type { Projection } from './projection.ts';
import { ageOut } from './retention.ts';
import { RetentionClock } from './retention-clock.ts';

const DAY_MS = 24 * 3_600_000;

export type Aged = { ledger: Ledger; projection: Projection; checkpoints: CheckpointWriter };

/** Looks at once, and then every hour. Answers what ends it. */
export async function keepAgeing(
  { ledger, projection, checkpoints }: Aged,
  { config, log, metrics }: { config: AuditConfig; log: Log; metrics: Metrics },
): Promise<() => Promise<void>> {
  const files = await openSegmentFiles(config.dir);
  const clock = await RetentionClock.open({ files, log, newestTs: checkpoints.latest?.ts ?? null });
  metrics.gauge({
    name: 'quern_audit_clock_ahead_seconds',
    help: 'How far the clock is ahead of the time by which records age; 0 when it is believed',
    collect: (set) => set(clock.aheadMs / 1000),
  });
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
