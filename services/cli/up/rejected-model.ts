/** The audit record of a model that an engine refused before there was a gateway that could record it. */
import { Outbox } from '#kit/audit/outbox.ts';
import { SYSTEM_TENANT } from '#kit/audit/record.ts';
import { MODEL_REJECTED } from '#kit/errors.ts';

/**
 * Writes it into the gateway's outbox, which sends it at the next start. Only while no gateway runs. Throws
 * FAILED_PRECONDITION when one does, UNAVAILABLE when the disk does not take it.
 */
export async function recordRejectedModel(outboxDir: string, model: string): Promise<void> {
  const outbox = await Outbox.open({ dir: outboxDir, service: 'gateway' });
  try {
    await outbox.append({
      tenant: SYSTEM_TENANT,
      actor: { kind: 'service', ref: outbox.producer },
      action: 'model.rejected',
      outcome: 'error',
      target: model,
      code: 'FAILED_PRECONDITION',
      reason: MODEL_REJECTED,
    });
  } finally {
    await outbox.close();
  }
}
