// Keeps the text of prompts and answers where a tenant's policy says so: redacted, then sealed under the person's key, in
// append-only segments of one UTC day each. A reference is given out only after its bytes are on the disk, so the record that
// names it never leads to nothing; content whose record was never written is readable by nobody and goes with its day.
// A start begins a new segment, so what a crash tore stays behind at the end of an old one and needs no repair; nor does what a failed
// fdatasync left there, for its reference was never given out.
import { QuernError } from '#kit/errors.ts';
import { randomHex } from '#kit/ids.ts';
import { redact } from '#kit/redaction/redact.ts';
import { fittingUnits } from '#kit/text-cut.ts';
import {
  type ContentKind,
  dayOf,
  encodeContent,
  encodeContentFrame,
  frameBytes,
  referenceOf,
  segmentFile,
  segmentOf,
} from './content-frame.ts';
import type { ContentPolicy } from './content-policy.ts';
import {
  CONTENT_PENDING_BYTES_MAX,
  CONTENT_REDACTION_MARGIN_CHARS,
  CONTENT_RETENTION_DAYS,
  CONTENT_SEGMENT_BYTES_MAX,
  CONTENT_STORE_BYTES_MAX,
} from './limits.ts';
import { openSegmentFiles, type SegmentFile, type SegmentFiles } from './segment-files.ts';
import type { Subject } from './vault.ts';

/** Members of the audit record that names the content. */
export type KeptContent = { content_ref: string; redactions: { readonly [rule: string]: number } };

export type ContentStoreOptions = {
  retentionDays?: number;
  bytesMax?: number;
  /** Milliseconds since 1970. */
  now?: () => number;
  /** For tests of a failing disk. */
  files?: SegmentFiles;
};

type Segment = { name: string; day: string; end: number; file: SegmentFile | null };
type Pending = { segment: Segment; at: number; frame: Buffer; resolve: () => void; reject: (error: Error) => void };

const DAY_MS = 24 * 3_600_000;

function unavailable(message: string, cause?: unknown): QuernError {
  return new QuernError('UNAVAILABLE', `audit content: ${message}`, { reason: 'AUDIT_CONTENT_UNAVAILABLE' }, { cause });
}

/** What is kept of a text: at most `bytesMax` UTF-8 bytes, redacted with a view of what follows the cut. */
function prepare(
  text: string,
  bytesMax: number,
): { text: string; cut: boolean; redactions: KeptContent['redactions'] } {
  const end = fittingUnits(text, bytesMax);
  const { text: redacted, hits } = redact(text.slice(0, end + CONTENT_REDACTION_MARGIN_CHARS), end);
  const fitting = fittingUnits(redacted, bytesMax); // a placeholder may be longer than what it stands for
  return { text: redacted.slice(0, fitting), cut: end < text.length || fitting < redacted.length, redactions: hits };
}

export class ContentStore {
  readonly #files: SegmentFiles;
  readonly #retentionDays: number;
  readonly #bytesMax: number;
  readonly #now: () => number;
  /** Of all segments, what waits for the disk included. */
  #bytes = 0;
  /** Takes what comes. */
  #segment: Segment | null = null;
  /** Has an open file: the one above, or the one before it until the disk has all of that. */
  #opened: Segment | null = null;
  #pending: Pending[] = [];
  #pendingBytes = 0;
  #flushing: Promise<void> | null = null;
  #failure: QuernError | null = null;

  private constructor(files: SegmentFiles, options: ContentStoreOptions) {
    this.#files = files;
    this.#retentionDays = options.retentionDays ?? CONTENT_RETENTION_DAYS;
    this.#bytesMax = options.bytesMax ?? CONTENT_STORE_BYTES_MAX;
    this.#now = options.now ?? Date.now;
  }

  /** Opens the store in `dir` (made, 0700, when it is not there) and deletes what is past its time. */
  static async open(dir: string, options: ContentStoreOptions = {}): Promise<ContentStore> {
    const store = new ContentStore(options.files ?? (await openSegmentFiles(dir)), options);
    for (const file of await store.#files.list()) {
      if (segmentOf(file) !== null) store.#bytes += await store.#files.size(file);
    }
    await store.sweep();
    return store;
  }

  /** Bytes of all segments. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Keeps a text and answers, once it is on the disk, what the record says of it; null: the policy keeps none of this kind.
   * Throws UNAVAILABLE when the disk failed, RESOURCE_EXHAUSTED when the store is full or the disk is far behind.
   */
  async keep(
    subject: Subject,
    policy: ContentPolicy | undefined,
    { kind, text }: { kind: ContentKind; text: string },
  ): Promise<KeptContent | null> {
    if (!(kind === 'prompt' ? policy?.prompts : policy?.responses) || !policy) return null;
    if (this.#failure) throw this.#failure;
    const { redactions, ...kept } = prepare(text, policy.max_bytes);
    const plain = encodeContent({ kind, ...kept, bytes: Buffer.byteLength(text) });
    const length = frameBytes(plain);
    this.#checkRoom(length);
    const segment = this.#segmentFor(length);
    const id = randomHex(8);
    const reference = referenceOf({ segment: segment.name, offset: segment.end, id });
    const frame = encodeContentFrame(id, subject.sealContent(plain, reference));
    await this.#append(segment, frame);
    return { content_ref: reference, redactions };
  }

  /** Deletes segments past their time; at least a day's worth, today's never; also done when a new day begins. Answers how many went. */
  async sweep(): Promise<number> {
    const oldest = dayOf(this.#now() - this.#retentionDays * DAY_MS);
    let removed = 0;
    for (const file of await this.#files.list()) {
      const segment = segmentOf(file);
      if (segment === null || segment.slice(0, 8) >= oldest) continue;
      const bytes = await this.#files.size(file);
      await this.#files.remove(file);
      this.#bytes -= bytes;
      removed += 1;
    }
    if (removed > 0) await this.#files.syncFolder();
    return removed;
  }

  /** Writes what waits, then lets go of the file. */
  async close(): Promise<void> {
    this.#failure ??= unavailable('the store is closed');
    await this.#flushing;
    await this.#retire();
    this.#segment = null;
  }

  #checkRoom(length: number): void {
    const [full, behind] = [
      this.#bytes + length > this.#bytesMax,
      this.#pendingBytes + length > CONTENT_PENDING_BYTES_MAX,
    ];
    if (!full && !behind) return;
    const message = full
      ? `the store has ${this.#bytes} bytes of at most ${this.#bytesMax}; raise its size or keep less`
      : `${this.#pendingBytes} bytes wait for the disk, at most ${CONTENT_PENDING_BYTES_MAX} may`;
    throw new QuernError('RESOURCE_EXHAUSTED', `audit content: ${message}`, { reason: 'AUDIT_CONTENT_FULL' });
  }

  #segmentFor(length: number): Segment {
    const day = dayOf(this.#now());
    const current = this.#segment;
    if (current && current.day === day && current.end + length <= CONTENT_SEGMENT_BYTES_MAX) return current;
    this.#segment = { name: `${day}-${randomHex(4)}`, day, end: 0, file: null };
    return this.#segment;
  }

  #append(segment: Segment, frame: Buffer): Promise<void> {
    const at = segment.end;
    segment.end += frame.length;
    this.#bytes += frame.length;
    this.#pendingBytes += frame.length;
    return new Promise((resolve, reject) => {
      this.#pending.push({ segment, at, frame, resolve, reject });
      this.#flushing ??= this.#flush();
    });
  }

  /** One write and one fdatasync at a time; what comes meanwhile joins the next. */
  async #flush(): Promise<void> {
    for (let first = this.#pending[0]; first; first = this.#pending[0]) {
      const { segment } = first;
      const next = this.#pending.findIndex((one) => one.segment !== segment);
      const batch = this.#pending.splice(0, next < 0 ? this.#pending.length : next);
      try {
        const isNewDay = this.#opened !== null && this.#opened.day !== segment.day;
        if (this.#opened !== segment) await this.#retire();
        this.#opened = segment;
        if (isNewDay) await this.sweep();
        await this.#write(segment, batch);
      } catch (error) {
        this.#fail(error, batch);
        break;
      }
      for (const { frame, resolve } of batch) {
        this.#pendingBytes -= frame.length;
        resolve();
      }
    }
    this.#flushing = null;
  }

  async #write(segment: Segment, batch: readonly Pending[]): Promise<void> {
    const isNew = segment.file === null;
    segment.file ??= await this.#files.open(segmentFile(segment.name));
    await segment.file.write(Buffer.concat(batch.map(({ frame }) => frame)), batch[0]?.at ?? 0);
    await segment.file.datasync();
    if (isNew) await this.#files.syncFolder();
  }

  async #retire(): Promise<void> {
    const file = this.#opened?.file;
    this.#opened = null;
    await file?.close();
  }

  /** What the disk refused may be lost even if it takes the next: nothing more is kept until a new start. */
  #fail(cause: unknown, batch: readonly Pending[]): void {
    this.#failure ??= unavailable('the disk refused; expected it to take what is kept, restart once it does', cause);
    for (const { reject } of [...batch, ...this.#pending.splice(0)]) reject(this.#failure);
    this.#pendingBytes = 0;
  }
}
