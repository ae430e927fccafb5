// What each token id writes: bytes, and its text where the bytes are whole characters. Fetched once per model.

import { createHash } from 'node:crypto';
import type { SamplingParams } from '#gen/quern/common/v1/common.ts';
import type { VocabularyPiece } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';

const NONE = new Uint8Array(0);
// fatal: a piece that is not whole characters by itself must take the byte path.
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });
const lenient = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * Marks of fill-in-the-middle and repository prompts. They have a meaning in prompts only, but many a tokenizer.json has them as added
 * tokens that are not special, so that a model that is not sure of itself would write them into its answers.
 */
const PROMPT_MARKS: readonly RegExp[] = [
  /^<\|?fim_(?:prefix|suffix|middle|pad|begin|hole|end)\|?>$/,
  /^<\|?(?:repo_?name|file_?sep(?:arator)?|filename)\|?>$/,
  /^<｜fim▁(?:begin|hole|end)｜>$/,
  /^▁<(?:PRE|SUF|MID)>$/,
  /^\[(?:PREFIX|SUFFIX|MIDDLE)\]$/,
];

function isControl({ special, unused, added, bytes }: VocabularyPiece): boolean {
  if (special || unused || !added) return special || unused;
  const literal = lenient.decode(bytes);
  return PROMPT_MARKS.some((mark) => mark.test(literal));
}

export type VocabularyHeader = {
  contentHash: string;
  size: number;
  eosTokenIds: readonly number[];
  chatTemplateHash: string;
  fimFamily: string;
  /** psm or spm; absent: no FIM, or not told. */
  fimOrder?: string | undefined;
  /** Tokens that the prompt of an infill is best given; absent: as many as fit. */
  infillPromptTokens?: number | undefined;
  /** What the model's own configuration says where a request says nothing; absent: nothing. */
  defaultSampling?: SamplingParams | undefined;
  /** Names of kit/output-formats.ts; "" or absent: none. */
  toolParser?: string;
  reasoningParser?: string;
};

/** Immutable. Reads of an id outside the table throw: an engine that makes such ids runs another model. */
export class Vocabulary {
  readonly header: VocabularyHeader;
  readonly #bytes: readonly Uint8Array[];
  /** Shown text of an id: '' for control tokens, null where the bytes end or begin inside a character. */
  readonly #shown: readonly (string | null)[];
  /** Of added tokens, special or not. */
  readonly #addedIds: ReadonlyMap<string, number>;

  constructor(header: VocabularyHeader, pieces: readonly VocabularyPiece[]) {
    this.header = header;
    this.#bytes = pieces.map((piece) => piece.bytes ?? NONE);
    this.#shown = pieces.map((piece) => (isControl(piece) ? '' : wholeText(piece.bytes)));
    const added = pieces.flatMap(({ added, special, bytes }, id): [string, number][] =>
      added || special ? [[lenient.decode(bytes), id]] : [],
    );
    this.#addedIds = new Map(added.reverse()); // of equal ones the lowest id
  }

  get size(): number {
    return this.#bytes.length;
  }

  /** Text of the id as shown to a client; null: use bytes(). `withControl`: control tokens are written out. */
  shown(id: number, withControl = false): string | null {
    const text = this.#shown[id];
    if (text === undefined) throw this.#unknown(id);
    return withControl && text === '' ? wholeText(this.bytes(id)) : text;
  }

  bytes(id: number): Uint8Array {
    const bytes = this.#bytes[id];
    if (bytes === undefined) throw this.#unknown(id);
    return bytes;
  }

  /** True for a control token that is not written out. */
  hidden(id: number, withControl = false): boolean {
    return !withControl && this.shown(id) === '' && this.bytes(id).length > 0;
  }

  /** The literal of an id, U+FFFD where its bytes are part of a character. */
  literal(id: number): string {
    return this.#shown[id] || lenient.decode(this.bytes(id));
  }

  /** The id of an added token by its literal; null: there is none, so that text spells it. */
  addedId(literal: string): number | null {
    return this.#addedIds.get(literal) ?? null;
  }

  #unknown(id: number): QuernError {
    const message = `token id ${id} is outside the vocabulary (0..${this.size - 1}); engine and tokenizer serve different models`;
    return new QuernError('INTERNAL', message, { reason: 'VOCABULARY_MISMATCH' });
  }
}

/** SHA-256 over all pieces in id order, hex: per piece a flag byte, its length (uint32 LE) and its bytes. */
export function vocabularyHash(pieces: readonly VocabularyPiece[]): string {
  const hash = createHash('sha256');
  const head = Buffer.alloc(5);
  for (const { bytes, special, added, unused } of pieces) {
    head[0] = (special ? 1 : 0) | (added ? 2 : 0) | (unused ? 4 : 0);
    head.writeUInt32LE(bytes.length, 1);
    hash.update(head).update(bytes);
  }
  return hash.digest('hex');
}

function wholeText(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}
