// Which calls were begun and how they ended, on disk: so that an idempotency key means one execution over any crash, and a call
// that was running when the service died is told as unknown and never run again by itself.
// Data: segments of entries, appended and fsynced (one fdatasync at a time, what comes meanwhile joins the next). In memory: the
// keys, each with where its end lies, and the calls that are open.
import { cutEnd, writeAgain } from '#kit/audit/segment-end.ts';
import type { SegmentFile, SegmentFiles } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';
import {
  type CallEnd,
  type CallFacts,
  damaged,
  type Entry,
  encode,
  entryAt,
  type Place,
} from './call-journal-entry.ts';
import {
  JOURNAL_BYTES_MAX,
  JOURNAL_KEPT_MS,
  JOURNAL_KEYS_MAX,
  JOURNAL_SEGMENT_AGE_MS,
  JOURNAL_SEGMENT_BYTES_MAX,
} from './limits.ts';

export type { CallEnd, CallFacts } from './call-journal-entry.ts';

/** What a key stands for: a call that runs, one whose end is kept, or one that a crash took. */
export type KeyState =
  | { kind: 'running'; facts: CallFacts }
  | { kind: 'ended'; facts: CallFacts; end: CallEnd }
  | { kind: 'unknown'; facts: CallFacts };

type Segment = { name: string; bytes: number; bornMs: number; lastMs: number };
type Keyed = { facts: CallFacts; atMs: number; end: Place | null; lost: boolean };
/** A call that has begun. `place`: of its beginning, null until it is written. `ending`: its end is on its way. */
type Open = { facts: CallFacts; place: Place | null; ending: boolean };
type Waiting = { bytes: Buffer; place: Place | null; resolve(place: Place): void; reject(error: QuernError): void };

const SUFFIX = '.calls';

function unavailable(message: string, cause?: unknown): QuernError {
  return new QuernError('UNAVAILABLE', `tool journal: ${message}`, { reason: 'TOOL_JOURNAL_UNAVAILABLE' }, { cause });
}

/** What an earlier process left: calls that were running, and how those ended whose end was written. */
export type JournalRemains = { lost: CallFacts[]; ended: ReadonlyMap<string, string> };

export type JournalBounds = { bytesMax: number; segmentBytesMax: number; keysMax: number };

const BOUNDS: JournalBounds = {
  bytesMax: JOURNAL_BYTES_MAX,
  segmentBytesMax: JOURNAL_SEGMENT_BYTES_MAX,
  keysMax: JOURNAL_KEYS_MAX,
};

export type CallJournalOptions = { files: SegmentFiles; now?: () => number; bounds?: JournalBounds };

/** Invariant: begin() has resolved before its call runs; what end() resolved is what the key gives for as long as it is kept. */
export class CallJournal {
  readonly #files: SegmentFiles;
  readonly #now: () => number;
  readonly #bounds: JournalBounds;
  readonly #segments: Segment[] = [];
  readonly #keys = new Map<string, Keyed>();
  readonly #open = new Map<string, Open>();
  #sweeping: Promise<void> | null = null;
  #active: SegmentFile | null = null;
  #waiting: Waiting[] = [];
  #flushing: Promise<void> | null = null;
  #failure: QuernError | null = null;
  #count = 0;

  private constructor({ files, now = Date.now, bounds = BOUNDS }: CallJournalOptions) {
    this.#files = files;
    this.#bounds = bounds;
    this.#now = now;
  }

  /**
   * Opens the folder's journal. Whoever opens it ends the calls that are lost with end(). What it answers is on the disk. Throws
   * DATA_LOSS when bytes that were safe have changed, UNAVAILABLE when the disk fails.
   */
  static async open(options: CallJournalOptions): Promise<{ journal: CallJournal } & JournalRemains> {
    const journal = new CallJournal(options);
    const names = (await options.files.list()).filter((name) => name.endsWith(SUFFIX)).sort();
    const ended = new Map<string, string>();
    for (const [index, name] of names.entries()) await journal.#load(name, index === names.length - 1, ended);
    const lost = [...journal.#open.values()].map(({ facts }) => facts);
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
    const open: Open = { facts, place: null, ending: false };
    this.#open.set(executionId, open);
    if (key !== '') this.#keys.set(key, { facts, atMs: this.#now(), end: null, lost: false });
    try {
      open.place = await this.#append({ t: 'begin', at: this.#now(), facts });
    } catch (error) {
      this.#open.delete(executionId);
      if (this.#keys.get(key)?.facts === facts) this.#keys.delete(key);
      throw error;
    }
  }

  /** Resolves when the end is on disk. Rejects UNAVAILABLE: after the next start the call is unknown. */
  async end(facts: CallFacts, end: CallEnd): Promise<void> {
    const { key, executionId } = facts;
    const keyed = this.#keys.get(key);
    const place = await this.#appendEnd(facts, { end });
    if (keyed?.facts.executionId === executionId) Object.assign(keyed, { end: place, lost: false });
  }

  /** As end(), of a call of which nothing began after all: its key is free again. */
  async free(facts: CallFacts, outcome: string): Promise<void> {
    const { key, executionId } = facts;
    await this.#appendEnd(facts, { end: { outcome, result: null }, ran: false });
    if (this.#keys.get(key)?.facts.executionId === executionId) this.#keys.delete(key);
  }

  async #appendEnd(facts: CallFacts, rest: { end: CallEnd; ran?: false }): Promise<Place> {
    const { key, executionId: id } = facts;
    const open = this.#open.get(id);
    if (open) open.ending = true;
    const since = this.#keys.get(key)?.atMs ?? this.#now();
    const place = await this.#append({
      t: 'end',
      at: this.#now(),
      since,
      id,
      facts: key === '' ? null : facts,
      ...rest,
    });
    this.#open.delete(id);
    return place;
  }

  /**
   * Forgets keys past their time and deletes the oldest segments, past theirs or for room. What a deleted one held of calls that
   * run and of keys in their time is written anew: without its result where the tenant keeps more than its share of the room.
   */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = null;
    });
    return this.#sweeping;
  }

  async #sweep(): Promise<void> {
    const oldest = this.#now() - JOURNAL_KEPT_MS;
    for (const [key, { atMs, facts }] of this.#keys) {
      if (atMs < oldest && !this.#open.has(facts.executionId)) this.#keys.delete(key);
    }
    this.#forgetExcess();
    for (let left = this.#segments.length; left > 1; left--) {
      const [segment] = this.#segments as [Segment];
      if (segment.lastMs >= oldest && this.bytes <= this.#bounds.bytesMax) break;
      if (!(await this.#carryOver(segment.name))) break;
      this.#segments.shift();
      await this.#files.remove(segment.name);
    }
  }

  /** When there are too many keys, the oldest of the tenant with the most of them go. */
  #forgetExcess(): void {
    let excess = this.#keys.size - this.#bounds.keysMax;
    if (excess <= 0) return;
    const ended = [...this.#keys].filter(([, { facts }]) => !this.#open.has(facts.executionId)).reverse();
    const byTenant = [...Map.groupBy(ended, ([, { facts }]) => facts.tenant).values()];
    for (; excess > 0 && byTenant.length > 0; excess--) {
      const most = byTenant.reduce((a, b) => (b.length > a.length ? b : a));
      const [key] = most.pop() ?? [];
      if (key !== undefined) this.#keys.delete(key);
    }
  }

  /** Answers whether nothing needs this segment any more; not yet, while the end of a call that began in it is being written. */
  async #carryOver(name: string): Promise<boolean> {
    const bytes = (await this.#files.read(name)) ?? Buffer.alloc(0);
    const open = [...this.#open.values()].filter(({ place }) => place?.segment === name);
    if (open.some(({ ending }) => ending)) return false;
    const copies = open.map(async (one) => {
      one.place = await this.#append({ t: 'begin', at: this.#now(), facts: one.facts });
    });
    const hasRoom = this.#tenantsWithRoom();
    for (const keyed of this.#keys.values()) {
      const { facts, atMs: since, end: place } = keyed;
      if (place?.segment !== name) continue;
      const entry = entryAt(bytes, place.at)?.entry;
      if (entry?.t !== 'end') throw damaged(name, place.at);
      const end = hasRoom.has(facts.tenant) ? entry.end : { ...entry.end, result: null };
      const copied = this.#append({ t: 'end', at: this.#now(), since, id: facts.executionId, facts, end });
      copies.push(copied.then((to) => void Object.assign(keyed, { end: to })));
    }
    await Promise.all(copies);
    return true;
  }

  /** Tenants whose results are within their share of half the room; all of them together fit it. */
  #tenantsWithRoom(): ReadonlySet<string> {
    const bytesOf = new Map<string, number>();
    for (const { facts, end } of this.#keys.values()) {
      bytesOf.set(facts.tenant, (bytesOf.get(facts.tenant) ?? 0) + (end?.length ?? 0));
    }
    const share = this.#bounds.bytesMax / 2 / Math.max(1, bytesOf.size);
    return new Set([...bytesOf].flatMap(([tenant, bytes]) => (bytes <= share ? tenant : [])));
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
        break;
      }
      const { entry, length } = found;
      segment.bornMs ||= entry.at;
      segment.lastMs = Math.max(segment.lastMs, entry.at);
      this.#replay(entry, { segment: name, at, length });
      if (entry.t === 'end') ended.set(entry.id, entry.end.outcome);
      at += length;
      segment.bytes = at;
    }
    if (isLast) await this.#settle(segment, bytes);
    this.#segments.push(segment);
    this.#count = Math.max(this.#count, Number.parseInt(name, 10));
  }

  /** The disk may lack what is read of the newest segment; those before were synced when it was begun. Cuts what a crash tore. */
  async #settle({ name, bytes: length }: Segment, bytes: Buffer): Promise<void> {
    const end = { files: this.#files, name };
    await writeAgain(end, 0, bytes.subarray(0, length));
    if (length < bytes.length) await cutEnd(end, length);
  }

  #replay(entry: Entry, place: Place): void {
    if (entry.t === 'begin') {
      const { facts, at } = entry;
      this.#open.set(facts.executionId, { facts, place, ending: false });
      if (facts.key !== '') this.#keys.set(facts.key, { facts, atMs: at, end: null, lost: false });
      return;
    }
    const { id, facts, since, ran } = entry;
    this.#open.delete(id);
    if (!facts) return;
    const keyed = this.#keys.get(facts.key);
    if (keyed && keyed.facts.executionId !== id) return; // it means a later call already
    if (ran === false) this.#keys.delete(facts.key);
    else this.#keys.set(facts.key, { facts, atMs: since, end: place, lost: false });
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
        // What a failed fdatasync dropped nobody knows: the next start reads what is there, and writes it again.
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
    if (last && !isOld && (last.bytes === 0 || last.bytes + size <= this.#bounds.segmentBytesMax)) {
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
