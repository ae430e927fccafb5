// Small vocabularies for tests: byte-level BPE trained on the spot with the pretokenizers of well-known families, and a
// SentencePiece-style one with byte fallback. Everything is a tokenizer.json in memory.
import type { ModelFiles, TokenizerJson } from '../../../../services/tokenizer/model-files.ts';

/** GPT-2's byte alphabet, written down once more so that the tests do not lean on the code they test. */
export function byteAlphabet(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

const ALPHABET = byteAlphabet();

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const BLANKS = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const PUNCTUATION = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*';
export const QWEN_PATTERN = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${PUNCTUATION}|${BLANKS}`;
export const LLAMA3_PATTERN = QWEN_PATTERN.replace('\\p{N}|', '\\p{N}{1,3}|');
export const CL100K_PATTERN = LLAMA3_PATTERN.replace(CONTRACTIONS, "'(?i:[sdmt]|ll|ve|re)").replace(
  '[\\r\\n]+|',
  '[\\r\\n]|',
);
export const QWEN35_PATTERN = QWEN_PATTERN.replace('?\\p{L}+', '?[\\p{L}\\p{M}]+').replace(
  '[^\\s\\p{L}\\p{N}]',
  '[^\\s\\p{L}\\p{M}\\p{N}]',
);
const DEEPSEEK_V3_PATTERN = [
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+',
  '[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+',
  ' ?[\\p{P}\\p{S}]+[\\r\\n]*',
  BLANKS,
].join('|');

const split = (pattern: string) => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
});
const byteLevel = (useRegex: boolean, addPrefixSpace = false) => ({
  type: 'ByteLevel',
  add_prefix_space: addPrefixSpace,
  trim_offsets: true,
  use_regex: useRegex,
});
const sequence = (...pretokenizers: object[]) => ({ type: 'Sequence', pretokenizers });

export type PreTokenizer = NonNullable<TokenizerJson['pre_tokenizer']>;

/** Pretokenizers by family. The library and the Rust binding agree on all of them but for the differences named in the tests. */
export const PRETOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  gpt2: byteLevel(true),
  'gpt2 with a prefix blank': byteLevel(true, true),
  qwen2: sequence(split(QWEN_PATTERN), byteLevel(false)),
  'qwen3.5': sequence(split(QWEN35_PATTERN), byteLevel(false)),
  llama3: sequence(split(LLAMA3_PATTERN), byteLevel(false)),
  cl100k: sequence(split(CL100K_PATTERN), byteLevel(false)),
  starcoder2: sequence({ type: 'Digits', individual_digits: true }, byteLevel(true)),
  'deepseek-coder': sequence(
    split('[\r\n]'),
    split('\\s?\\p{L}+'),
    split('\\s?\\p{P}+'),
    split('[一-龥ࠀ-一가-퟿]+'),
    { type: 'Digits', individual_digits: true },
    byteLevel(false),
  ),
  'deepseek-v3': sequence(
    split('\\p{N}{1,3}'),
    split('[一-龥぀-ゟ゠-ヿ]+'),
    split(DEEPSEEK_V3_PATTERN),
    byteLevel(false),
  ),
};

/** Words of a text for training: the merges need no exact pretokenizer, only plausible words. */
function trainingWords(text: string): Map<string, number> {
  const words = new Map<string, number>();
  for (const [word] of text.matchAll(/ ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/gu)) {
    const mapped = [...Buffer.from(word)].map((byte) => ALPHABET[byte]!).join('');
    words.set(mapped, (words.get(mapped) ?? 0) + 1);
  }
  return words;
}

type TrainingWord = { symbols: string[]; times: number };

/** How often each pair of neighbours occurs, and in which words; follows the words as they are merged. */
class PairCounts {
  readonly counts = new Map<string, number>();
  readonly #words = new Map<string, Set<TrainingWord>>();

  add(word: TrainingWord, sign: 1 | -1): void {
    const { symbols, times } = word;
    for (let i = 0; i + 1 < symbols.length; i += 1) {
      const pair = `${symbols[i]} ${symbols[i + 1]}`;
      const count = (this.counts.get(pair) ?? 0) + sign * times;
      if (count === 0) this.counts.delete(pair);
      else this.counts.set(pair, count);
      const words = this.#words.get(pair);
      if (words) words.add(word);
      else this.#words.set(pair, new Set([word]));
    }
  }

  /** The most frequent pair, the smallest of equals; '' when none occurs twice. */
  best(): string {
    let best = '';
    let most = 1;
    for (const [pair, times] of this.counts)
      if (times > most || (times === most && pair < best)) [best, most] = [pair, times];
    return best;
  }

  /** Words that hold the pair, and perhaps some that did. */
  take(pair: string): Iterable<TrainingWord> {
    const words = this.#words.get(pair) ?? [];
    this.#words.delete(pair);
    return words;
  }
}

/** Merges in order of rank, by the textbook: count pairs, take the most frequent, the smallest of equals. */
export function trainMerges(text: string, count: number): [string, string][] {
  const pairs = new PairCounts();
  for (const [word, times] of trainingWords(text)) pairs.add({ symbols: [...word], times }, 1);
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const best = pairs.best();
    if (best === '') break;
    const [left, right] = best.split(' ') as [string, string];
    merges.push([left, right]);
    for (const word of pairs.take(best)) {
      const symbols = mergePair(word.symbols, left, right);
      if (symbols.length === word.symbols.length) continue;
      pairs.add(word, -1);
      word.symbols = symbols;
      pairs.add(word, 1);
    }
  }
  return merges;
}

function mergePair(symbols: string[], left: string, right: string): string[] {
  if (!symbols.includes(left)) return symbols;
  const merged: string[] = [];
  for (let i = 0; i < symbols.length; i += 1) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      merged.push(left + right);
      i += 1;
    } else merged.push(symbols[i]!);
  }
  return merged;
}

export type AddedSpec = {
  content: string;
  special?: boolean;
  normalized?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
};

export type VocabularySpec = {
  merges: readonly [string, string][];
  preTokenizer: PreTokenizer;
  normalizer?: TokenizerJson['normalizer'];
  added?: readonly AddedSpec[];
  ignoreMerges?: boolean;
  /** Merges as "a b" instead of ["a", "b"]. */
  oldMerges?: boolean;
};

/** A byte-level tokenizer.json: 256 bytes, the merges' products, then the added tokens. */
export function byteLevelTokenizer(spec: VocabularySpec): TokenizerJson {
  const pieces = new Set<string>([...ALPHABET, ...spec.merges.map(([left, right]) => left + right)]);
  const vocab = Object.fromEntries([...pieces].map((piece, id) => [piece, id]));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(spec.added ?? [], pieces.size),
    normalizer: spec.normalizer ?? null,
    pre_tokenizer: spec.preTokenizer,
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: spec.ignoreMerges ?? false,
      vocab,
      merges: spec.merges.map(([left, right]) => (spec.oldMerges ? `${left} ${right}` : [left, right])),
    },
  };
}

function addedTokens(added: readonly AddedSpec[], first: number): TokenizerJson['added_tokens'] {
  return added.map(({ content, special = true, normalized = false, lstrip = false, rstrip = false }, index) => ({
    id: first + index,
    content,
    single_word: false,
    lstrip,
    rstrip,
    normalized,
    special,
  }));
}

function trainSentencePieceMerges(words: string[][], count: number): [string, string][] {
  const merges: [string, string][] = [];
  let current = words;
  while (merges.length < count) {
    const pairs = new Map<string, number>();
    for (const word of current) {
      for (let i = 0; i + 1 < word.length; i += 1) {
        const pair = `${word[i]} ${word[i + 1]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
      }
    }
    const best = [...pairs].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0];
    if (!best || best[1] < 2) break;
    const [left, right] = best[0].split(' ') as [string, string];
    merges.push([left, right]);
    current = current.map((word) => mergePair(word, left, right));
  }
  return merges;
}

const SENTENCE_PIECE_PARTS = {
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '▁' },
      { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
  },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
};

/** A SentencePiece-style BPE vocabulary as Llama 2 and CodeLlama have it: U+2581 for blanks, <0xNN> for bytes. */
export function sentencePieceTokenizer(text: string, mergeCount: number, added: readonly string[]): TokenizerJson {
  const marked = text.replaceAll(' ', '▁');
  const symbols = [...new Set(marked)].filter((char) => /[\x21-\x7e▁]/.test(char));
  const words = [...marked.matchAll(/▁?[^▁\s]+/g)].map(([word]) => [...word].filter((char) => symbols.includes(char)));
  const merges = trainSentencePieceMerges(words, mergeCount);
  const specials = ['<unk>', '<s>', '</s>'];
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const pieces = new Set([...specials, ...bytes, ...symbols, ...merges.map(([left, right]) => left + right), ...added]);
  const vocab = Object.fromEntries([...pieces].map((piece, id) => [piece, id]));
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    ...SENTENCE_PIECE_PARTS,
    added_tokens: [...specials, ...added].map((content) => ({ id: vocab[content]!, content, ...flags })),
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab,
      merges,
    },
  };
}

/** The files of a model folder around a tokenizer.json. */
export function modelFiles(tokenizer: TokenizerJson, files: Partial<ModelFiles> = {}): ModelFiles {
  return {
    dir: '/models/test',
    tokenizer,
    tokenizerConfig: {},
    generationConfig: {},
    modelConfig: {},
    quern: {},
    chatTemplate: null,
    ...files,
  };
}
