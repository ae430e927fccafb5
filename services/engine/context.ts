// What all RPCs share, built once by service.ts.
import type { NativeEngine } from './native.ts';
import type { TokenStreams } from './token-streams.ts';

export type EngineContext = {
  readonly native: NativeEngine;
  readonly streams: TokenStreams;
  /** The served name. */
  readonly modelName: string;
  /** New at every start. */
  readonly instanceId: string;
  /** Aborts when the engine begins to drain. */
  readonly draining: AbortSignal;
  /** Refuses new work from now on; health says so. Idempotent. */
  startDrain(): void;
  /** Monotonic milliseconds. */
  now_ms(): number;
};
