// Signed tree heads of the ledger, kept for ever in a file of their own and copied to witnesses: files outside the service's
// reach. At the start the newest one must still be true of the ledger; a log that was cut or rewritten is not signed again.
import { basename, dirname } from 'node:path';
import { type Checkpoint, type NoteSigner, openCheckpoint, signCheckpoint } from '#kit/audit/checkpoint.ts';
import { type KeptCheckpoint, newestCheckpoint, readCheckpoints, sizeOf } from '#kit/audit/checkpoint-file.ts';
import { EvenSample } from '#kit/audit/even-sample.ts';
import { FILE_LINE_BYTES_MAX } from '#kit/audit/limits.ts';
import { lastLineOf } from '#kit/audit/line-file.ts';
import { type NodeReader, rootOf } from '#kit/audit/merkle.ts';
import { cutEnd, writeAgain } from '#kit/audit/segment-end.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { appendDurably } from './append-durably.ts';
import { howToVerify } from './ledger.ts';
import { CHECKPOINT_EVERY_MS, CHECKPOINT_EVERY_RECORDS } from './limits.ts';
import { Witness, type WitnessOptions, type WitnessState } from './witness.ts';

/** What a checkpoint speaks of. `stored`: the head of what is on the disk. */
export type SignedTree = {
  readonly size: number;
  readonly stored: Readonly<{ size: number; root: Buffer }>;
  node: NodeReader;
};

export type CheckpointOptions = {
  tree: SignedTree;
  signer: NoteSigner;
  /** One JSON line per checkpoint: time and note. */
  path: string;
  /**
   * Files to which every note is appended too, in the background. A witness that cannot be written or does not answer is told;
   * its notes are kept and tried again with the next.
   */
  witnesses: readonly string[];
  /** Bounds of the witnesses that differ. */
  witnessBounds?: Omit<WitnessOptions, 'path' | 'log'>;
  log: Log;
  everyRecords?: number;
  everyMs?: number;
};

const NEWLINE = Buffer.from('\n');

/** Makes sure that the disk has the newest line: producers let go by it. One without its end was never told to anybody. */
async function settleEnd(path: string): Promise<void> {
  const { line, end, size } = await lastLineOf(path);
  if (line === null && size > FILE_LINE_BYTES_MAX) {
    const what = `${path}: expected a checkpoint at its end, found ${size} bytes without one: the file has been changed`;
    throw new QuernError('DATA_LOSS', `${what}; put a copy of it in its place`, {
      reason: 'AUDIT_CHECKPOINTS_DAMAGED',
    });
  }
  const file = { files: await openSegmentFiles(dirname(path)), name: basename(path) };
  if (line !== null) await writeAgain(file, end - line.length - 1, Buffer.concat([line, NEWLINE]));
  if (end < size) await cutEnd(file, end);
}

/** Throws DATA_LOSS when the tree does not begin with the checkpoint's. `dir`: of the log. */
export async function checkAgainst(tree: SignedTree, { size, root }: Checkpoint, dir: string): Promise<void> {
  if (size > tree.size) {
    const what = `the ledger has ${tree.size} records, but a checkpoint of ${size} was signed: it was truncated`;
    const message = `${what}. ${howToVerify(dir)}`;
    throw new QuernError('DATA_LOSS', message, { reason: 'AUDIT_LEDGER_TRUNCATED' });
  }
  const actual = await rootOf(size, (level, index) => tree.node(level, index));
  if (actual.equals(root)) return;
  const what = `the first ${size} records of the ledger are not those of the checkpoint signed then: records were changed`;
  const message = `${what}. ${howToVerify(dir)}`;
  throw new QuernError('DATA_LOSS', message, { reason: 'AUDIT_LEDGER_FORKED' });
}

/** Invariant: checkpoints grow, and each is true of the ledger when it is signed. */
export class CheckpointWriter {
  readonly #options: CheckpointOptions;
  #latest: KeptCheckpoint | null;
  #size: number;
  #signedAtMs = performance.now();
  #signing: Promise<unknown> = Promise.resolve();
  readonly #witnesses: readonly Witness[];

  private constructor(options: CheckpointOptions, latest: KeptCheckpoint | null, size: number) {
    this.#options = options;
    this.#latest = latest;
    this.#size = size;
    const { witnesses, witnessBounds, log } = options;
    this.#witnesses = witnesses.map((path) => new Witness({ path, log, ...witnessBounds }));
  }

  /** Throws DATA_LOSS when the newest checkpoint is not true of the ledger, or is not signed by this key. */
  static async open(options: CheckpointOptions): Promise<CheckpointWriter> {
    const { path, tree, signer } = options;
    await settleEnd(path);
    const latest = await newestCheckpoint(path);
    if (!latest) return new CheckpointWriter(options, null, 0);
    let checkpoint: Checkpoint;
    try {
      checkpoint = openCheckpoint(latest.note, signer.name, [signer]);
    } catch (error) {
      const what = `${path}: the newest checkpoint does not open with this key (${(error as Error).message})`;
      const message = `${what}; give the folder of keys that belongs to this log (QUERN_AUDIT_KEY_DIR)`;
      throw new QuernError('DATA_LOSS', message, { reason: 'AUDIT_CHECKPOINTS_DAMAGED' }, { cause: error });
    }
    await checkAgainst(tree, checkpoint, dirname(path));
    return new CheckpointWriter(options, latest, checkpoint.size);
  }

  get latest(): KeptCheckpoint | null {
    return this.#latest;
  }

  get witnesses(): WitnessState[] {
    return this.#witnesses.map(({ state }) => state);
  }

  /**
   * Of the notes of `sizes` at most `max`, evenly spread and oldest first, the newest of them always. Reads the whole file as it
   * comes; throws DATA_LOSS when it has been changed.
   */
  async sample(max: number, sizes: (size: number) => boolean = () => true): Promise<string[]> {
    const sample = new EvenSample<string>(max);
    for await (const { note } of readCheckpoints(this.#options.path)) if (sizes(sizeOf(note))) sample.add(note);
    return sample.items;
  }

  /** Signs when enough records or time have passed; `now` signs whatever is new. Answers whether it signed. */
  sign(options: { now?: boolean } = {}): Promise<boolean> {
    const signed = this.#signing.then(() => this.#sign(options));
    this.#signing = signed.catch(() => {}); // one after the other; whoever asked hears of the error
    return signed;
  }

  async #sign(options: { now?: boolean }): Promise<boolean> {
    const { tree, everyRecords = CHECKPOINT_EVERY_RECORDS, everyMs = CHECKPOINT_EVERY_MS } = this.#options;
    const { size, root } = tree.stored;
    const fresh = size - this.#size;
    if (fresh === 0) return false;
    const isDue = options.now || fresh >= everyRecords || performance.now() - this.#signedAtMs >= everyMs;
    if (!isDue) return false;
    const { signer, path } = this.#options;
    const checkpoint = { origin: signer.name, size, root };
    const kept = { ts: new Date().toISOString(), note: signCheckpoint(checkpoint, signer) };
    const line = `${JSON.stringify(kept)}\n`;
    await appendDurably(path, line);
    [this.#latest, this.#size, this.#signedAtMs] = [kept, checkpoint.size, performance.now()];
    for (const witness of this.#witnesses) witness.add(line);
    return true;
  }

  /** Waits for what is being signed, and for the witnesses as long as they are given. */
  async close(): Promise<void> {
    await this.#signing;
    await Promise.all(this.#witnesses.map((witness) => witness.close()));
  }
}
