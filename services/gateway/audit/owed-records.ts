// Records that must come to be written whatever the outbox says now: each is tried again until it is on disk.
import type { Receipt } from '#kit/audit/outbox.ts';
import type { AuditEvent } from '#kit/audit/record.ts';
import { AUDIT_OWED_RECORDS_MAX, AUDIT_OWED_RETRY_MS } from '../limits.ts';

type Owed = { event: AuditEvent; onWritten: () => void };

export type OwedOptions = {
  append(event: AuditEvent): Promise<Receipt>;
  /** A record was given up for want of room. */
  onDropped(event: AuditEvent): void;
  /** For tests. */
  retryMs?: number;
};

export class OwedRecords {
  readonly #options: OwedOptions;
  #refused: Owed[] = [];
  #pending = 0;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: OwedOptions) {
    this.#options = options;
  }

  /** Records that are not on disk yet. */
  get size(): number {
    return this.#pending + this.#refused.length;
  }

  /** Resolves when the first attempt was made, well or not. */
  write(event: AuditEvent, onWritten: () => void = () => {}): Promise<void> {
    this.#pending += 1;
    return this.#options.append(event).then(
      () => {
        this.#pending -= 1;
        onWritten();
      },
      () => {
        this.#pending -= 1;
        this.#again({ event, onWritten });
      },
    );
  }

  /** As write(), of a record that is not known yet. The promise must not reject. */
  async writeLater(event: Promise<AuditEvent>, onWritten: () => void = () => {}): Promise<void> {
    this.#pending += 1;
    const known = await event;
    const written = this.write(known, onWritten);
    this.#pending -= 1;
    return written;
  }

  /** No attempt is made any more: what is left is for the next start. */
  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #again(owed: Owed): void {
    if (this.#refused.length >= AUDIT_OWED_RECORDS_MAX) this.#options.onDropped(owed.event);
    else this.#refused.push(owed);
    if (this.#timer || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      for (const { event, onWritten } of this.#refused.splice(0)) void this.write(event, onWritten);
    }, this.#options.retryMs ?? AUDIT_OWED_RETRY_MS);
  }
}
