// Which calls were begun and how they ended, on disk: so that an idempotency key means one execution over any crash, and a call
// that was running when the service died is told as unknown and never run again by itself.
// Data: segments of entries, appended and fsynced (one fdatasync at a time, what comes meanwhile joins the next). Entry: u32
// length, u32 CRC-32, JSON. In memory: the keys, each with where its end lies, and the calls that are open.
import { crc32 } from 'node:zlib';
import type { SegmentFile, SegmentFiles } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';
import {
  JOURNAL_BYTES_MAX,
  JOURNAL_ENTRY_BYTES_MAX,
  JOURNAL_KEPT_MS,
  JOURNAL_KEYS_MAX,
  JOURNAL_SEGMENT_AGE_MS,
  JOURNAL_SEGMENT_BYTES_MAX,
} from './limits.ts';

/** What is known of a call before it runs; all that its end needs after a crash. */
export type CallFacts = {
  /** ULID. */
  executionId: string;
  tenant: string;
  /** Hex digest of tenant and user: who may ask how it ended. */
  owner: string;
  /** Pseudonym of the user in the audit log; "" without one. */
  actorRef: string;
  callId: string;
  /** Tenant, user and idempotency key as one hex digest; "" = no key. */
  key: string;
  /** Hex SHA-256 of what the key stands for: tool, arguments, stdin, session. */
  requestSha: string;
  tool: string;
  toolSha: string;
  requestId: string;
  traceId: string;
};

/** The kept result of a call with a key; null: nobody can ask for it. */
export type CallEnd = { outcome: string; result: string | null };

type Entry =
  | { t: 'begin'; at: number; facts: CallFacts }
  /** `ran`: false when nothing of the call began, so that its key is free again. */
  | { t: 'end'; at: number; id: string; key: string; end: CallEnd; ran?: false };

type Place = { segment: string; at: number; length: number };

/** What a key stands for: a call that runs, one whose end is kept, or one that a crash took. */
export type KeyState =
  | { kind: 'running'; facts: CallFacts }
  | { kind: 'ended'; facts: CallFacts; end: CallEnd }
  | { kind: 'unknown'; facts: CallFacts };

type Segment = { name: string; bytes: number; bornMs: number; lastMs: number };
type Keyed = { facts: CallFacts; atMs: number; end: Place | null; lost: boolean };
type Waiting = { bytes: Buffer; place: Place | null; resolve(place: Place): void; reject(error: QuernError): void };

const HEADER_BYTES = 8;
const SUFFIX = '.calls';

function damaged(name: string, at: number): QuernError {
  const message = `the journal of calls is damaged: ${name} at byte ${at}; move the file away to go on without what it held`;
  return new QuernError('DATA_LOSS', message, { reason: 'TOOL_JOURNAL_DAMAGED' });
}

function unavailable(message: string, cause?: unknown): QuernError {
  return new QuernError('UNAVAILABLE', `tool journal: ${message}`, { reason: 'TOOL_JOURNAL_UNAVAILABLE' }, { cause });
}

function encode(entry: Entry): Buffer {
  const payload = Buffer.from(JSON.stringify(entry), 'utf8');
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(payload.length, 0);
  bytes.writeUInt32LE(crc32(payload), 4);
  payload.copy(bytes, HEADER_BYTES);
  return bytes;
}

/** The entry at a place, or null when there is no whole one. */
function entryAt(bytes: Buffer, at: number): { entry: Entry; length: number } | null {
  if (at + HEADER_BYTES > bytes.length) return null;
  const length = bytes.readUInt32LE(at);
  if (length === 0 || length > JOURNAL_ENTRY_BYTES_MAX || at + HEADER_BYTES + length > bytes.length) return null;
  const payload = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
  if (crc32(payload) !== bytes.readUInt32LE(at + 4)) return null;
  return { entry: JSON.parse(payload.toString('utf8')) as Entry, length: HEADER_BYTES + length };
}

/** What an earlier process left: calls that were running, and how those ended whose end was written. */
export type JournalRemains = { lost: CallFacts[]; ended: ReadonlyMap<string, string> };

export type CallJournalOptions = { files: SegmentFiles; now?: () => number };

/** Invariant: begin() has resolved before its call runs; what end() resolved is what the key gives for as long as it is kept. */
export class CallJournal {
  readonly #files: SegmentFiles;
  readonly #now: () => number;
  readonly #segments: Segment[] = [];
  readonly #keys = new Map<string, Keyed>();
  readonly #open = new Map<string, CallFacts>();
  #active: SegmentFile | null = null;
  #waiting: Waiting[] = [];
  #flushing: Promise<void> | null = null;
  #failure: QuernError | null = null;
  #count = 0;

  private constructor({ files, now = Date.now }: CallJournalOptions) {
    this.#files = files;
    this.#now = now;
  }

  /**
   * Opens the folder's journal. Whoever opens it ends the calls that are lost with end(). Throws DATA_LOSS when bytes that were
   * safe have changed.
   */
  static async open(options: CallJournalOptions): Promise<{ journal: CallJournal } & JournalRemains> {
    const journal = new CallJournal(options);
    const names = (await options.files.list()).filter((name) => name.endsWith(SUFFIX)).sort();
    const ended = new Map<string, string>();
    for (const [index, name] of names.entries()) await journal.#load(name, index === names.length - 1, ended);
    const lost = [...journal.#open.values()];
    for (const { key } of lost) {
      const keyed = journal.#keys.get(key);
      if (keyed) keyed.lost = true;
    }
    await journal.sweep();
    return { journal, lost, ended };
  }

  get hasFailed(): boolean {
    return this.#failure !== null;
  }

  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Whether find() would answer more than null. */
  has(key: string): boolean {
    return this.#keys.has(key);
  }

  /** Null: the key is new, or past its time. */
  async find(key: string): Promise<KeyState | null> {
    const keyed = this.#keys.get(key);
    if (!keyed) return null;
    const { facts, end, lost } = keyed;
    if (end) return { kind: 'ended', facts, end: await this.#read(end) };
    return lost ? { kind: 'unknown', facts } : { kind: 'running', facts };
  }

  /** Resolves when it is on disk that this call may run. Rejects UNAVAILABLE: then it may not. */
  async begin(facts: CallFacts): Promise<void> {
    const { key, executionId } = facts;
    this.#open.set(executionId, facts);
    if (key !== '') this.#keys.set(key, { facts, atMs: this.#now(), end: null, lost: false });
    try {
      await this.#append({ t: 'begin', at: this.#now(), facts });
    } catch (error) {
      this.#open.delete(executionId);
      if (this.#keys.get(key)?.facts === facts) this.#keys.delete(key);
      throw error;
    }
  }

  /** Resolves when the end is on disk. Rejects UNAVAILABLE: after the next start the call is unknown. */
  async end(facts: CallFacts, end: CallEnd): Promise<void> {
    const { key, executionId } = facts;
    const place = await this.#append({ t: 'end', at: this.#now(), id: executionId, key, end });
    this.#open.delete(executionId);
    const keyed = this.#keys.get(key);
    if (keyed?.facts.executionId === executionId) Object.assign(keyed, { end: place, lost: false });
  }

  /** As end(), of a call of which nothing began after all: its key is free again. */
  async free(facts: CallFacts, outcome: string): Promise<void> {
    const { key, executionId } = facts;
    const end = { outcome, result: null };
    await this.#append({ t: 'end', at: this.#now(), id: executionId, key, end, ran: false });
    this.#open.delete(executionId);
    if (this.#keys.get(key)?.facts.executionId === executionId) this.#keys.delete(key);
  }

  /** Forgets keys past their time, and deletes the segments that hold nothing else. */
  async sweep(): Promise<void> {
    const oldest = this.#now() - JOURNAL_KEPT_MS;
    for (const [key, { atMs, facts }] of this.#keys) {
      const running = this.#open.has(facts.executionId);
      if (!running && (atMs < oldest || this.#keys.size > JOURNAL_KEYS_MAX)) this.#keys.delete(key);
      else if (!running) break; // in the order of their beginning
    }
    while (this.#segments.length > 1) {
      const [segment] = this.#segments as [Segment];
      if (segment.lastMs >= oldest && this.bytes <= JOURNAL_BYTES_MAX) break;
      const held = [...this.#keys].filter(([, { end }]) => end?.segment === segment.name);
      for (const [key] of held) this.#keys.delete(key);
      this.#segments.shift();
      await this.#files.remove(segment.name);
    }
  }

  async close(): Promise<void> {
    await this.#flushing;
    this.#failure ??= unavailable('it is closed');
    await this.#active?.close();
    this.#active = null;
  }

  async #load(name: string, isLast: boolean, ended: Map<string, string>): Promise<void> {
    const bytes = (await this.#files.read(name)) ?? Buffer.alloc(0);
    const segment: Segment = { name, bytes: 0, bornMs: 0, lastMs: 0 };
    for (let at = 0; at < bytes.length; ) {
      const found = entryAt(bytes, at);
      if (!found) {
        if (!isLast) throw damaged(name, at);
        await this.#cut(name, at);
        break;
      }
      const { entry, length } = found;
      segment.bornMs ||= entry.at;
      segment.lastMs = entry.at;
      this.#replay(entry, { segment: name, at, length });
      if (entry.t === 'end') ended.set(entry.id, entry.end.outcome);
      at += length;
      segment.bytes = at;
    }
    this.#segments.push(segment);
    this.#count = Math.max(this.#count, Number.parseInt(name, 10));
  }

  /** What a crash left of the last write. */
  async #cut(name: string, at: number): Promise<void> {
    const file = await this.#files.open(name);
    await file.truncate(at);
    await file.datasync();
    await file.close();
  }

  #replay(entry: Entry, place: Place): void {
    if (entry.t === 'begin') {
      const { facts, at } = entry;
      this.#open.set(facts.executionId, facts);
      if (facts.key !== '') this.#keys.set(facts.key, { facts, atMs: at, end: null, lost: false });
      return;
    }
    this.#open.delete(entry.id);
    const keyed = this.#keys.get(entry.key);
    if (keyed?.facts.executionId !== entry.id) return;
    if (entry.ran === false) this.#keys.delete(entry.key);
    else keyed.end = place;
  }

  async #read({ segment, at, length }: Place): Promise<CallEnd> {
    const bytes = await this.#files.readRange(segment, at, length);
    const entry = entryAt(bytes, 0)?.entry;
    if (entry?.t !== 'end') throw damaged(segment, at);
    return entry.end;
  }

  #append(entry: Entry): Promise<Place> {
    if (this.#failure) return Promise.reject(this.#failure);
    const bytes = encode(entry);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ bytes, place: null, resolve, reject });
      this.#flushing ??= this.#flush();
    });
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        await this.#commit(batch);
      } catch (error) {
        // What a failed fdatasync dropped nobody knows: the next start reads what is there.
        this.#failure = unavailable(`its disk failed (${(error as Error).message}); the service starts again`, error);
        for (const { reject } of [...batch, ...this.#waiting.splice(0)]) reject(this.#failure);
      }
    }
    this.#flushing = null;
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    const size = batch.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const segment = await this.#segmentFor(size);
    const isNew = segment.bytes === 0;
    if (isNew) segment.bornMs = this.#now();
    await this.#active!.write(Buffer.concat(batch.map(({ bytes }) => bytes)), segment.bytes);
    await this.#active!.datasync();
    if (isNew) await this.#files.syncFolder();
    for (const waiting of batch) {
      waiting.place = { segment: segment.name, at: segment.bytes, length: waiting.bytes.length };
      segment.bytes += waiting.bytes.length;
    }
    segment.lastMs = this.#now();
    for (const { place, resolve } of batch) resolve(place!);
  }

  async #segmentFor(size: number): Promise<Segment> {
    const last = this.#segments.at(-1);
    const isOld = last !== undefined && last.bytes > 0 && this.#now() - last.bornMs > JOURNAL_SEGMENT_AGE_MS;
    if (last && !isOld && (last.bytes === 0 || last.bytes + size <= JOURNAL_SEGMENT_BYTES_MAX)) {
      this.#active ??= await this.#files.open(last.name);
      return last;
    }
    this.#count += 1;
    const name = `${String(this.#count).padStart(10, '0')}${SUFFIX}`;
    const next = await this.#files.open(name);
    await this.#active?.close();
    this.#active = next;
    const segment = { name, bytes: 0, bornMs: this.#now(), lastMs: this.#now() };
    this.#segments.push(segment);
    return segment;
  }
}
