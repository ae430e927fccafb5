// What each id of a vocabulary writes: bytes and flags, with a hash over all of it. Serves byte-level BPE and
// byte-fallback (SentencePiece-style) vocabularies alike.
import { createHash } from 'node:crypto';
import { QuernError } from '#kit/errors.ts';
import { bytesOfPiece } from './byte-alphabet.ts';
import { VOCABULARY_SIZE_MAX } from './limits.ts';
import type { JsonObject, ModelFiles, TokenizerJson } from './model-files.ts';

/** How the strings of the vocabulary write bytes. */
export type VocabularyKind = 'byte-level' | 'sentencepiece' | 'plain';

export const SPECIAL = 1; // a control token: not shown in text
export const ADDED = 2;
export const UNUSED = 4; // a hole

export type Vocabulary = {
  readonly kind: VocabularyKind;
  /** ids 0..size-1 */
  readonly size: number;
  /** Bytes of id i: bytes[starts[i]..starts[i + 1]). */
  readonly bytes: Uint8Array;
  readonly starts: Uint32Array;
  /** SPECIAL | ADDED | UNUSED per id. */
  readonly flags: Uint8Array;
  /** Id of each string of the vocabulary, added tokens included; the strings as tokenizer.json writes them. */
  readonly idOf: ReadonlyMap<string, number>;
  /** sha256, hex: per id the flags byte, the length as u32 little-endian, the bytes. */
  readonly contentHash: string;
};

type Named = { type: string; [key: string]: unknown };

/** The parts of a decoder or pretokenizer, itself included. */
function partsOf(config: Named | null, key: string): Named[] {
  if (config === null) return [];
  return config.type === 'Sequence' ? ((config[key] ?? []) as Named[]).flatMap((one) => partsOf(one, key)) : [config];
}

export function vocabularyKind(tokenizer: TokenizerJson): VocabularyKind {
  const decoders = partsOf(tokenizer.decoder, 'decoders');
  if (decoders.some((decoder) => decoder.type === 'ByteLevel')) return 'byte-level';
  const replacesBar = (decoder: Named): boolean =>
    decoder.type === 'Replace' && (decoder.pattern as { String?: string } | undefined)?.String === '\u2581';
  const marks = decoders.some(
    (decoder) => ['Metaspace', 'ByteFallback'].includes(decoder.type) || replacesBar(decoder),
  );
  if (marks || tokenizer.model.byte_fallback === true) return 'sentencepiece';
  const pretokenizers = partsOf(tokenizer.pre_tokenizer as Named | null, 'pretokenizers');
  return pretokenizers.some((one) => one.type === 'ByteLevel') ? 'byte-level' : 'plain';
}

/** Ids of the model's own vocabulary, a dictionary or Unigram's list of [piece, score], without added tokens. */
export function modelIds(tokenizer: TokenizerJson): Map<string, number> {
  const { vocab } = tokenizer.model;
  if (Array.isArray(vocab)) return new Map(vocab.map(([piece], id) => [piece, id]));
  const ids = new Map<string, number>();
  // Object.entries would make a list per entry, which takes twice as long.
  for (const piece of Object.keys(vocab)) ids.set(piece, vocab[piece]!);
  return ids;
}

const BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/;

function bytesOf(piece: string, kind: VocabularyKind): Uint8Array {
  if (kind === 'byte-level') return bytesOfPiece(piece) ?? Buffer.from(piece);
  if (kind === 'sentencepiece') {
    const byte = BYTE_PIECE.exec(piece);
    if (byte) return Uint8Array.of(Number.parseInt(byte[1]!, 16));
    return Buffer.from(piece.replaceAll('\u2581', ' '));
  }
  return Buffer.from(piece);
}

/** vocab_size of config.json: models pad their embeddings; ids up there exist for the engine but write nothing. */
function paddedSize(modelConfig: JsonObject): number {
  const text = (modelConfig.text_config ?? {}) as JsonObject;
  const size = modelConfig.vocab_size ?? text.vocab_size;
  return typeof size === 'number' && Number.isInteger(size) && size > 0 ? size : 0;
}

function checkId(dir: string, piece: string, id: number): void {
  if (Number.isInteger(id) && id >= 0 && id < VOCABULARY_SIZE_MAX) return;
  const expected = `expected token ids 0..${VOCABULARY_SIZE_MAX - 1}`;
  const message = `${dir}: ${expected}, got ${id} for ${JSON.stringify(piece)}; the tokenizer.json is damaged`;
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' });
}

function hashOf(size: number, bytes: Uint8Array, starts: Uint32Array, flags: Uint8Array): string {
  const all = Buffer.alloc(5 * size + bytes.length); // one update: 300,000 small ones take longer than the rest of the load
  let at = 0;
  for (let id = 0; id < size; id += 1) {
    all[at] = flags[id]!;
    at = all.writeUInt32LE(starts[id + 1]! - starts[id]!, at + 1);
    for (let byte = starts[id]!; byte < starts[id + 1]!; byte += 1) all[at++] = bytes[byte]!;
  }
  return createHash('sha256').update(all).digest('hex');
}

/** The table of tokenizer.json's vocabulary (`own`) and added tokens. Throws MODEL_LOAD_FAILED when ids make no sense. */
export function createVocabulary(files: ModelFiles, own: ReadonlyMap<string, number>): Vocabulary {
  const { tokenizer, dir } = files;
  const kind = vocabularyKind(tokenizer);
  const idOf = new Map(own);
  const written: Uint8Array[] = [];
  const marks: number[] = [];
  const special = new Set<string>(
    (Array.isArray(files.tokenizerConfig.additional_special_tokens)
      ? files.tokenizerConfig.additional_special_tokens
      : []
    ).map((token: unknown) => (typeof token === 'string' ? token : String((token as JsonObject | null)?.content))),
  );
  for (const [piece, id] of own) {
    checkId(dir, piece, id);
    written[id] = bytesOf(piece, kind);
    marks[id] = 0;
  }
  for (const token of tokenizer.added_tokens) {
    checkId(dir, token.content, token.id);
    idOf.set(token.content, token.id);
    written[token.id] = Buffer.from(token.content);
    marks[token.id] = ADDED | (token.special === true || special.has(token.content) ? SPECIAL : 0);
  }
  const size = Math.max(written.length, Math.min(paddedSize(files.modelConfig), VOCABULARY_SIZE_MAX));
  const starts = new Uint32Array(size + 1);
  const flags = new Uint8Array(size).fill(UNUSED);
  for (let id = 0; id < size; id += 1) {
    starts[id + 1] = starts[id]! + (written[id]?.length ?? 0);
    if (written[id]) flags[id] = marks[id]!;
  }
  const bytes = new Uint8Array(starts[size]!);
  for (let id = 0; id < size; id += 1) if (written[id]) bytes.set(written[id]!, starts[id]!);
  return { kind, size, bytes, starts, flags, idOf, contentHash: hashOf(size, bytes, starts, flags) };
}

/** The bytes of one id, a view. Empty for a hole. */
export function bytesOfId(vocabulary: Vocabulary, id: number): Uint8Array {
  return vocabulary.bytes.subarray(vocabulary.starts[id]!, vocabulary.starts[id + 1]!);
}

/** Throws INVALID_ARGUMENT, naming `field`, when an id is outside the vocabulary or a hole in it. */
export function checkIds(vocabulary: Vocabulary, ids: ArrayLike<number>, field: string): void {
  for (let i = 0; i < ids.length; i += 1) {
    const id = ids[i]!;
    const inside = id < vocabulary.size;
    if (inside && (vocabulary.flags[id]! & UNUSED) === 0) continue;
    const expected = `expected an id of the vocabulary (0..${vocabulary.size - 1})`;
    const description = `${expected}, got ${id}${inside ? ', which is a hole in it' : ''}; send ids of this model only`;
    throw new QuernError('INVALID_ARGUMENT', `${field}[${i}]: ${description}`, {
      reason: 'TOKEN_ID_UNKNOWN',
      fields: [{ field: `${field}[${i}]`, description }],
    });
  }
}

/** Bytes of all ids, one after the other; control tokens left out when `skipSpecial`. Ids must have been checked. */
export function joinBytes(vocabulary: Vocabulary, ids: ArrayLike<number>, skipSpecial: boolean): Uint8Array {
  const { starts, flags, bytes } = vocabulary;
  let length = 0;
  const shown = (id: number): boolean => !skipSpecial || (flags[id]! & SPECIAL) === 0;
  for (let i = 0; i < ids.length; i += 1) if (shown(ids[i]!)) length += starts[ids[i]! + 1]! - starts[ids[i]!]!;
  const joined = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < ids.length; i += 1) {
    const id = ids[i]!;
    if (!shown(id)) continue;
    for (let byte = starts[id]!; byte < starts[id + 1]!; byte += 1) joined[at++] = bytes[byte]!;
  }
  return joined;
}
