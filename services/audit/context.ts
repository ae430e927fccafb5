// What all RPCs share, built once by service.ts.
import type { NoteVerifier } from '#kit/audit/checkpoint.ts';
import type { Outbox } from '#kit/audit/outbox.ts';
import type { SegmentFiles } from '#kit/audit/segment-files.ts';
import type { Vault } from '#kit/audit/vault.ts';
import type { CheckpointWriter } from './checkpoints.ts';
import type { ConsumerStats } from './consumer.ts';
import type { Ledger } from './ledger.ts';
import type { Operators } from './operators.ts';
import type { Projection } from './projection.ts';

export type AuditContext = {
  readonly ledger: Ledger;
  readonly projection: Projection;
  readonly checkpoints: CheckpointWriter;
  readonly vault: Vault;
  readonly verifier: NoteVerifier;
  /** The service's own records: who read the log. */
  readonly outbox: Outbox;
  readonly operators: Operators;
  /** Kept prompts and answers; null: none. */
  readonly content: SegmentFiles | null;
  /** Aborts when the service drains: what would go on for ever ends. */
  readonly stopping: AbortSignal;
  /** How long a reader of a stream may take nothing. */
  readonly readerStallMs: number;
  consumerStats(): ConsumerStats;
};
