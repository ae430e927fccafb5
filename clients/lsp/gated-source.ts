/** The last door before the mesh: nothing goes through while it is not known whether anything may, or once nothing may. */
import { InfillFailure } from './core/infill-source.ts';
import type { MeshSource } from './core/mesh-source.ts';

export type GateParts = {
  /** The mesh that is opened now, whichever that is. */
  opened: () => MeshSource;
  /** While it is not known; null: it is. */
  unsettled: () => Promise<void> | null;
  enabled: () => boolean;
};

export function gatedSource({ opened, unsettled, enabled }: GateParts): MeshSource {
  const pass = async (signal: AbortSignal): Promise<MeshSource> => {
    await settled(unsettled, signal);
    if (signal.aborted) throw new InfillFailure('cancelled', 'cancelled before it was sent');
    if (!enabled()) throw new InfillFailure('cancelled', 'turned off before it was sent');
    return opened();
  };
  return {
    async *infill(query, options) {
      yield* (await pass(options.signal)).infill(query, options);
    },
    capabilities: async (model, options) => (await pass(options.signal)).capabilities(model, options),
    report: async (events, options) => (await pass(options.signal)).report(events, options),
    warm: async (query, options) => (await pass(options.signal)).warm(query, options),
    reconnect: (why) => opened().reconnect?.(why),
  };
}

/** Waits until nothing is unsettled any more, or `signal` aborts. */
export async function settled(unsettled: () => Promise<void> | null, signal: AbortSignal): Promise<void> {
  let stop: () => void = () => {};
  const aborted = new Promise<void>((resolve) => {
    stop = resolve;
    signal.addEventListener('abort', stop, { once: true });
  });
  for (let wait = unsettled(); wait && !signal.aborted; wait = unsettled()) await Promise.race([wait, aborted]);
  signal.removeEventListener('abort', stop);
}
