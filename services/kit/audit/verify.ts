// Checks a log offline: the records' bytes in the order of the log, and signed checkpoints that somebody kept. It needs no
// service, no key but the public one, and names what is wrong and where.
import { QuernError } from '#kit/errors.ts';
import { type Checkpoint, type NoteVerifier, openCheckpoint } from './checkpoint.ts';
import { counted } from './counted.ts';
import { HASH_BYTES, leafHash, MerkleFrontier, subtreesBetween } from './merkle.ts';
import { NO_RECORD_SHA256, placeOf, sha256Hex } from './record.ts';

/**
 * ok: every record up to the newest checkpoint is as it was signed.
 * altered: a record's bytes changed. missing: a record was taken out. reordered: records changed places.
 * truncated: the end is missing. rechained: records were changed and their chain made anew.
 * forked: two valid checkpoints contradict each other. bad_signature: a checkpoint is not signed by a key that counts, or
 * nothing that is signed vouches for a record of an export.
 * gap: the log is as it was signed, but records of a producer never came.
 */
export type Verdict =
  | 'ok'
  | 'altered'
  | 'missing'
  | 'reordered'
  | 'truncated'
  | 'rechained'
  | 'forked'
  | 'bad_signature'
  | 'gap';

export type Verification = {
  verdict: Verdict;
  /** Index of the first record concerned; null for ok and where no record is concerned. */
  index: number | null;
  /** One sentence for the person who asked. */
  message: string;
  /** Records read. */
  records: number;
  /** Of them, those that a checkpoint vouches for. */
  covered: number;
};

/** Thrown by whoever reads the records: stored bytes are not what was written, which shows before any hash is compared. */
export class LogDamage extends Error {
  readonly verdict: 'altered' | 'missing' | 'reordered';
  /** Of the first record concerned. */
  readonly index: number;

  constructor(verdict: LogDamage['verdict'], index: number, message: string) {
    super(message);
    this.verdict = verdict;
    this.index = index;
  }
}

/** Where a producer's chain stands; index -1: not among the records read. */
export type ChainHead = { seq: number; sha256: string };

/** A part of a log: `first` records before it and some behind it are known by the roots of the subtrees that they make up. */
export type LogPart = {
  first: number;
  /** Index behind its last record. */
  end: number;
  /** The records of the tree in which it lies. */
  treeSize: number;
  /** Hashes of subtreesBetween(0, first) and of subtreesBetween(end, treeSize). */
  before: readonly Buffer[];
  after: readonly Buffer[];
};

export type VerifyOptions = {
  /** From index 0, or from where `aged` ends, or those of `part`. */
  records: AsyncIterable<Buffer> | Iterable<Buffer>;
  /** Leaf hashes, from index 0, of records whose bytes are not kept any more. */
  aged?: AsyncIterable<Buffer> | Iterable<Buffer>;
  part?: LogPart | undefined;
  /** Where the producers' chains stand at the first record. */
  heads?: ReadonlyMap<string, ChainHead>;
  origin: string;
  verifiers: readonly NoteVerifier[];
  /** Signed notes that come with the log, in any order. */
  checkpoints: readonly string[];
  /** A signed note kept elsewhere: the one that counts. Of `verifiers` only those that signed it count then. */
  trusted?: string | undefined;
};

type Finding = { verdict: Verdict; index: number | null; message: string };
type Head = { seq: number; sha256: string; index: number };

/** Follows the chains of the producers and keeps the first thing that is odd. */
class Chains {
  readonly #heads = new Map<string, Head>();
  odd: Finding | null = null;
  gap: Finding | null = null;
  #missing: { producer: string; from: number; to: number } | null = null;

  constructor(heads: ReadonlyMap<string, ChainHead> = new Map()) {
    for (const [producer, head] of heads) this.#heads.set(producer, { ...head, index: -1 });
  }

  take(index: number, bytes: Buffer): void {
    let place: ReturnType<typeof placeOf>;
    try {
      place = placeOf(bytes);
    } catch {
      return; // bytes that were no record when they came are kept as they are: the tree vouches for them
    }
    const { producer, seq, prev } = place;
    const head = this.#heads.get(producer) ?? { seq: 0, sha256: NO_RECORD_SHA256, index: -1 };
    const sha256 = sha256Hex(bytes);
    if (seq === head.seq + 1) {
      if (prev !== head.sha256) this.#alters(head, index, producer, seq);
    } else if (seq > head.seq + 1) {
      this.#skips(index, producer, head.seq + 1, seq - 1);
    } else {
      this.#comesLate(index, producer, seq, head.seq);
      return;
    }
    this.#heads.set(producer, { seq, sha256, index });
  }

  #skips(index: number, producer: string, from: number, to: number): void {
    if (this.gap) return;
    const which = from === to ? `record ${from} of ${producer} is` : `records ${from} to ${to} of ${producer} are`;
    this.gap = { verdict: 'gap', index, message: `${which} not there` };
    this.#missing = { producer, from, to };
  }

  /** What seemed to be missing and comes after all has changed its place. */
  #comesLate(index: number, producer: string, seq: number, after: number): void {
    const message = `record ${seq} of ${producer} comes after record ${after}`;
    const { gap } = this;
    const missing = this.#missing;
    const isFound = missing?.producer === producer && missing.from <= seq && seq <= missing.to;
    this.odd ??= { verdict: 'reordered', index: gap && isFound ? (gap.index ?? index) : index, message };
    if (isFound) [this.gap, this.#missing] = [null, null];
  }

  #alters(head: Head, index: number, producer: string, seq: number): void {
    const at = head.index < 0 ? index : head.index;
    const message = `record ${at} (${producer} ${seq - 1}) is not the one that record ${index} names as its predecessor`;
    this.odd ??= { verdict: 'altered', index: at, message };
  }
}

/** Each is asked alone, so that another one's signature cannot stand in for it. */
function signersOf(note: string, origin: string, verifiers: readonly NoteVerifier[]): NoteVerifier[] {
  return verifiers.filter((verifier) => {
    try {
      openCheckpoint(note, origin, [verifier]);
      return true;
    } catch {
      return false;
    }
  });
}

const keyName = ({ name, keyId }: NoteVerifier): string => `${name}+${keyId.toString('hex')}`;

type Opened = { good: Checkpoint[]; bad: Finding | null };

function open({ origin, verifiers, checkpoints, trusted }: VerifyOptions): Opened {
  // An export brings its own keys along, and who forged it can add one: a note from elsewhere says whose word counts.
  const signers = trusted === undefined ? [] : signersOf(trusted, origin, verifiers);
  const known = signers.length > 0 ? signers : verifiers; // when nobody signed the trusted note, it is refused below
  const good: Checkpoint[] = [];
  for (const [i, note] of [...checkpoints, ...(trusted === undefined ? [] : [trusted])].entries()) {
    try {
      good.push(openCheckpoint(note, origin, known));
    } catch (error) {
      const which = i < checkpoints.length ? `checkpoint ${i + 1} of ${checkpoints.length}` : 'the trusted checkpoint';
      const key = known.length === 1 ? keyName(known[0]!) : `one of ${known.length} keys`;
      const message = `${which} does not open with ${key}: ${(error as Error).message}`;
      return { good, bad: { verdict: 'bad_signature', index: null, message } };
    }
  }
  return { good: good.sort((a, b) => a.size - b.size), bad: null };
}

function contradiction(checkpoints: readonly Checkpoint[]): Finding | null {
  for (const [i, one] of checkpoints.entries()) {
    const next = checkpoints[i + 1];
    if (next?.size !== one.size || next.root.equals(one.root)) continue;
    const message = `two checkpoints of ${one.size} records are both signed and differ: the log's writer showed two logs`;
    return { verdict: 'forked', index: null, message };
  }
  return null;
}

/** What a false root means, by what the chains say of the records below it. */
function explain(chains: Chains, checkpoint: Checkpoint, lastGood: number): Finding {
  const { odd, gap } = chains;
  if (gap && (odd?.index == null || (gap.index ?? 0) <= odd.index)) {
    return {
      verdict: 'missing',
      index: gap.index,
      message: `${gap.message}, though they were when ${checkpoint.size} were signed`,
    };
  }
  if (odd) return odd;
  const message =
    `the records ${lastGood} to ${checkpoint.size - 1} follow one another but are not those that were signed: they were ` +
    'changed and chained anew';
  return { verdict: 'rechained', index: lastGood, message };
}

/** Compares the tree, as it grows, with every checkpoint of its size. */
class Comparison {
  readonly frontier = new MerkleFrontier();
  readonly #checkpoints: readonly Checkpoint[];
  #next = 0;
  /** The largest true checkpoint before any false one. */
  covered = 0;
  wrong: Checkpoint | null = null;

  constructor(checkpoints: readonly Checkpoint[]) {
    this.#checkpoints = checkpoints;
  }

  /** To be called at every size. Throws FAILED_PRECONDITION for a checkpoint of a size that the tree passed over. */
  compare(): void {
    const { frontier } = this;
    for (let one = this.pending; one && one.size <= frontier.size; one = this.pending) {
      if (one.size < frontier.size) throw notInPart(one.size);
      if (!frontier.root().equals(one.root)) this.wrong ??= one;
      else if (!this.wrong) this.covered = one.size;
      this.#next += 1;
    }
  }

  /** The smallest checkpoint that the tree has not reached. */
  get pending(): Checkpoint | undefined {
    return this.#checkpoints[this.#next];
  }
}

function notInPart(size: number): QuernError {
  const message =
    `the checkpoint of ${size} records lies outside of this part of the log, which cannot be compared with it; export from ` +
    'the beginning, or verify through the service';
  return new QuernError('FAILED_PRECONDITION', message, { reason: 'CHECKPOINT_OUTSIDE' });
}

function malformedPart(part: LogPart): Finding | null {
  const { first, end, treeSize, before, after } = part;
  const whole = [first, end, treeSize].every(Number.isSafeInteger) && 0 <= first && first <= end && end <= treeSize;
  if (
    whole &&
    before.length === subtreesBetween(0, first).length &&
    after.length === subtreesBetween(end, treeSize).length &&
    [...before, ...after].every(({ length }) => length === HASH_BYTES)
  ) {
    return null;
  }
  const message = 'what the log says of its place in the tree does not fit together: it was changed';
  return { verdict: 'altered', index: null, message };
}

/** Records and then, behind a part, the subtrees that follow it. Answers whether records are missing at its end. */
async function readAll(options: VerifyOptions, chains: Chains, comparison: Comparison): Promise<Finding | null> {
  const { records, aged = [], part } = options;
  const { frontier } = comparison;
  for (const [i, { level }] of subtreesBetween(0, part?.first ?? 0).entries()) {
    frontier.appendSubtree(level, part!.before[i]!);
  }
  comparison.compare();
  for await (const leaf of aged) {
    frontier.append(leaf);
    comparison.compare();
  }
  let extra = 0;
  for await (const bytes of records) {
    chains.take(frontier.size + extra, bytes);
    if (part && frontier.size === part.end) {
      extra += 1;
      continue;
    }
    frontier.append(leafHash(bytes));
    if (comparison.pending && comparison.pending.size <= frontier.size) comparison.compare();
  }
  if (!part) return null;
  if (extra > 0) {
    const message = `there are ${counted(extra, 'record')} more than the ${part.end - part.first} that were exported`;
    return chains.odd ?? { verdict: 'altered', index: part.end, message };
  }
  if (frontier.size < part.end) return ended(chains, frontier.size, part.end);
  for (const [i, { level }] of subtreesBetween(part.end, part.treeSize).entries()) {
    frontier.appendSubtree(level, part.after[i]!);
    comparison.compare();
  }
  return null;
}

/**
 * Reads the whole log once. The verdict is the first thing that is wrong, in the order: signatures, contradictions, records.
 * Throws FAILED_PRECONDITION when a checkpoint cannot be compared with a part.
 */
export async function verifyLog(options: VerifyOptions): Promise<Verification> {
  const { part } = options;
  const { good: checkpoints, bad } = open(options);
  const early = bad ?? contradiction(checkpoints) ?? (part ? malformedPart(part) : null);
  if (early) return { ...early, records: 0, covered: 0 };
  const chains = new Chains(options.heads);
  const first = part?.first ?? 0;
  const outside = checkpoints.find(({ size }) => size < first);
  if (outside) throw notInPart(outside.size);
  const comparison = new Comparison(checkpoints);
  const tail = await readAll(options, chains, comparison).catch((error: unknown): Finding => {
    if (!(error instanceof LogDamage)) throw error;
    const { verdict, index, message } = error;
    return comparison.wrong ? explain(chains, comparison.wrong, comparison.covered) : { verdict, index, message };
  });
  // What is wrong with a record often shows at its producer's next one, behind the checkpoint: so all is read first.
  const { covered, wrong, pending, frontier } = comparison;
  const size = part ? Math.min(frontier.size, part.end) : frontier.size;
  const records = size - first;
  const signed = Math.max(0, Math.min(covered, size) - first);
  let finding: Finding | null = tail ?? (wrong && explain(chains, wrong, Math.max(covered, first)));
  if (!finding && pending) {
    finding = ended(chains, frontier.size, checkpoints.at(-1)!.size);
    if (part && finding.verdict === 'truncated') finding.message += OR_OLDER;
  }
  finding ??= chains.odd ??
    (part && signed < records ? unsigned(first + signed, records - signed) : null) ??
    chains.gap ?? { verdict: 'ok', index: null, message: wholeText(records, signed) };
  return { ...finding, records, covered: signed };
}

function wholeText(records: number, signed: number): string {
  if (records === 0) return 'there are no records';
  if (records === 1 && signed === 1) return '1 record, and it is signed';
  if (signed > 0) return `${records} records, ${signed} of them signed`;
  const whole = records === 1 ? '1 record that is whole' : `${records} records that follow one another`;
  return `${whole}; nothing is signed yet: a running service signs within 10 s`;
}

/** A log that runs has records that are not signed yet; an export is signed before it is made, or somebody added to it. */
function unsigned(index: number, count: number): Finding {
  const message =
    `no signed checkpoint covers record ${index}, the first of ${count} for which nothing vouches: they were added, or the ` +
    'checkpoint over them was taken away';
  return { verdict: 'bad_signature', index, message };
}

/** An export cannot tell by itself. */
const OR_OLDER = '; an export from before that checkpoint looks the same: compare their times, or export again';

/** The log ends before a checkpoint's size: records were cut off its end, or taken out of it. */
function ended(chains: Chains, records: number, signed: number): Finding {
  const inside = chains.odd ?? chains.gap;
  if (inside) {
    const verdict = inside.verdict === 'gap' ? 'missing' : inside.verdict;
    return { ...inside, verdict };
  }
  return {
    verdict: 'truncated',
    index: records,
    message: `the log ends after ${counted(records, 'record')}, but ${signed} were signed`,
  };
}
