// Checks a log offline: the records' bytes in the order of the log, and signed checkpoints that somebody kept. It needs no
// service, no key but the public one, and names what is wrong and where.
import { type Checkpoint, type NoteVerifier, openCheckpoint } from './checkpoint.ts';
import { leafHash, MerkleFrontier } from './merkle.ts';
import { NO_RECORD_SHA256, placeOf, sha256Hex } from './record.ts';

/**
 * ok: every record up to the newest checkpoint is as it was signed.
 * altered: a record's bytes changed. missing: a record was taken out. reordered: records changed places.
 * truncated: the end is missing. rechained: records were changed and their chain made anew.
 * forked: two valid checkpoints contradict each other. bad_signature: a checkpoint is not signed by a known key.
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
  /** Records that a checkpoint vouches for. */
  covered: number;
};

export type VerifyOptions = {
  /** From index 0. */
  records: AsyncIterable<Buffer> | Iterable<Buffer>;
  origin: string;
  verifiers: readonly NoteVerifier[];
  /** Signed notes that come with the log, in any order. */
  checkpoints: readonly string[];
  /** A signed note kept elsewhere: the one that counts. */
  trusted?: string | undefined;
};

type Finding = { verdict: Verdict; index: number | null; message: string };
type Head = { seq: number; sha256: string; index: number };

/** Follows the chains of the producers and keeps the first thing that is odd. */
class Chains {
  readonly #heads = new Map<string, Head>();
  odd: Finding | null = null;
  gap: Finding | null = null;

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
      const message = `records ${head.seq + 1} to ${seq - 1} of ${producer} are not there`;
      this.gap ??= { verdict: 'gap', index, message };
    } else {
      const message = `record ${seq} of ${producer} comes after record ${head.seq}`;
      this.odd ??= { verdict: 'reordered', index, message };
      return;
    }
    this.#heads.set(producer, { seq, sha256, index });
  }

  #alters(head: Head, index: number, producer: string, seq: number): void {
    const at = head.index < 0 ? index : head.index;
    const message = `record ${at} (${producer} ${seq - 1}) is not the one that record ${index} names as its predecessor`;
    this.odd ??= { verdict: 'altered', index: at, message };
  }
}

type Opened = { good: Checkpoint[]; trusted: Checkpoint | null; bad: Finding | null };

function open(options: VerifyOptions): Opened {
  const { origin, verifiers, checkpoints, trusted: trustedNote } = options;
  const good: Checkpoint[] = [];
  for (const note of [...checkpoints, ...(trustedNote === undefined ? [] : [trustedNote])]) {
    try {
      good.push(openCheckpoint(note, origin, verifiers));
    } catch (error) {
      const bad: Finding = { verdict: 'bad_signature', index: null, message: (error as Error).message };
      return { good, trusted: null, bad };
    }
  }
  const trusted = trustedNote === undefined ? null : (good.at(-1) ?? null);
  return { good: good.sort((a, b) => a.size - b.size), trusted, bad: null };
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

/** Reads the whole log once. The verdict is the first thing that is wrong, in the order: signatures, contradictions, records. */
export async function verifyLog(options: VerifyOptions): Promise<Verification> {
  const { good: checkpoints, bad } = open(options);
  const early = bad ?? contradiction(checkpoints);
  if (early) return { ...early, records: 0, covered: 0 };
  const frontier = new MerkleFrontier();
  const chains = new Chains();
  let [next, covered] = [0, 0];
  const skipEmpty = (): void => {
    while (checkpoints[next] && checkpoints[next]!.size === 0) next += 1;
  };
  skipEmpty();
  let wrong: Checkpoint | null = null;
  for await (const bytes of options.records) {
    chains.take(frontier.size, bytes);
    frontier.append(leafHash(bytes));
    while (checkpoints[next]?.size === frontier.size) {
      const checkpoint = checkpoints[next]!;
      if (!frontier.root().equals(checkpoint.root)) wrong ??= checkpoint;
      else if (!wrong) covered = checkpoint.size;
      next += 1;
    }
  }
  // What is wrong with a record often shows at its producer's next one, behind the checkpoint: so all is read first.
  const records = frontier.size;
  let finding: Finding | null = wrong && explain(chains, wrong, covered);
  if (!finding && next < checkpoints.length) finding = ended(chains, records, checkpoints.at(-1)!.size);
  finding ??= chains.odd ??
    chains.gap ?? { verdict: 'ok', index: null, message: `${records} records, ${covered} of them signed` };
  return { ...finding, records, covered };
}

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
    message: `the log ends after ${records} records, but ${signed} were signed`,
  };
}
