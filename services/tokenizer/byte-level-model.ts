// The byte-level fast path of a tokenizer.json, or null when only the library encodes it exactly.
import { QuernError } from '#kit/errors.ts';
import { CODE_OF_BYTE } from './byte-alphabet.ts';
import type { ByteLevelModel, NormalForm } from './byte-level-encoder.ts';
import { MergeTable } from './merge-table.ts';
import type { JsonObject, ModelFiles, TokenizerJson } from './model-files.ts';
import { byteLevelPreTokenizer } from './pretokenizer.ts';
import type { VocabularyKind } from './vocabulary.ts';

const NORMAL_FORMS: readonly string[] = ['NFC', 'NFD', 'NFKC', 'NFKD'];

function normalFormsOf(config: TokenizerJson['normalizer']): NormalForm[] | null {
  if (config === null) return [];
  if (config.type === 'Sequence') {
    const parts = (config.normalizers as { type: string }[]).map(normalFormsOf);
    return parts.every((part) => part !== null) ? parts.flat() : null;
  }
  return NORMAL_FORMS.includes(config.type) ? [config.type as NormalForm] : null;
}

/** Options of the BPE model or of tokenizer_config.json that change ids and that the fast path does not do. */
function needsLibrary(tokenizer: TokenizerJson, config: JsonObject): boolean {
  const { model } = tokenizer;
  const isBpe = model.type === undefined ? Array.isArray(model.merges) : model.type === 'BPE';
  return (
    !isBpe ||
    Array.isArray(model.vocab) ||
    Boolean(model.continuing_subword_prefix || model.continuing_subword_suffix || model.end_of_word_suffix) ||
    Boolean(model.dropout) ||
    config.remove_space === true ||
    config.do_lowercase_and_remove_accent === true
  );
}

function byteIdsOf(files: ModelFiles, idOf: ReadonlyMap<string, number>): Int32Array | null {
  const ids = Int32Array.from(CODE_OF_BYTE, (code) => idOf.get(String.fromCharCode(code)) ?? -1);
  const missing = ids.reduce((count, id) => count + (id < 0 ? 1 : 0), 0);
  if (missing === 0) return ids;
  if (files.tokenizer.model.unk_token != null) return null;
  const got = `got ${256 - missing} and no unknown token`;
  const message = `${files.dir}: expected a token for each of the 256 bytes, ${got}; train the vocabulary with the full byte alphabet`;
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' });
}

type Merge = { left: number; right: number; product: number };

/**
 * Merges by ids. A merge whose parts or product are no tokens can never show in a vocabulary made by training; it needs
 * the library (null). A merge that would write an added token is left out: untrusted text must not yield one.
 */
function mergesOf(
  tokenizer: TokenizerJson,
  idOf: ReadonlyMap<string, number>,
  added: ReadonlySet<number>,
): Merge[] | null {
  const merges: Merge[] = [];
  for (const merge of tokenizer.model.merges ?? []) {
    const [a, b] = Array.isArray(merge) ? merge : (merge.split(' ', 2) as [string, string]);
    const left = idOf.get(a);
    const right = idOf.get(b);
    const product = idOf.get(a + b);
    if (left === undefined || right === undefined || product === undefined) return null;
    if (!added.has(product)) merges.push({ left, right, product });
  }
  return merges;
}

/**
 * `idOf`: the model's own vocabulary, without added tokens. Null: use the library. Throws MODEL_LOAD_FAILED for a
 * vocabulary that cannot write every byte.
 */
export function byteLevelModel(
  files: ModelFiles,
  kind: VocabularyKind,
  idOf: ReadonlyMap<string, number>,
): ByteLevelModel | null {
  const { tokenizer, tokenizerConfig } = files;
  if (kind !== 'byte-level' || needsLibrary(tokenizer, tokenizerConfig)) return null;
  const normalForms = normalFormsOf(tokenizer.normalizer);
  const pretokenizer = byteLevelPreTokenizer(tokenizer.pre_tokenizer);
  if (!normalForms || !pretokenizer) return null;
  if (new Set(idOf.values()).size !== idOf.size) return null; // two strings with one id: symbols are not ids
  const byteIds = byteIdsOf(files, idOf);
  if (!byteIds) return null;
  const added = new Set(tokenizer.added_tokens.map((token) => token.id));
  const merges = mergesOf(tokenizer, idOf, added);
  if (!merges) return null;
  let wholeWords: Map<string, number> | null = null;
  if (tokenizer.model.ignore_merges === true) {
    wholeWords = new Map([...idOf].filter(([, id]) => !added.has(id)));
  }
  return { normalForms, ...pretokenizer, byteIds, merges: new MergeTable(merges), wholeWords };
}
