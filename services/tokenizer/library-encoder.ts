// Text to ids through @huggingface/tokenizers, for vocabularies that the byte-level path does not know: SentencePiece-style
// BPE with byte fallback, Unigram, WordPiece, and pretokenizers that need the whole library.
import { Tokenizer } from '@huggingface/tokenizers';
import { QuernError } from '#kit/errors.ts';
import type { IdBuffer } from './id-buffer.ts';
import type { JsonObject, TokenizerJson } from './model-files.ts';

type Named = { type: string; [key: string]: unknown };

/** What of the library's Tokenizer is driven part by part. */
type Parts = {
  normalizer: ((text: string) => string) | null;
  pre_tokenizer: ((text: string, options: { section_index: number }) => string[]) | null;
  model: ((words: string[]) => string[]) & { tokens_to_ids: Map<string, number>; unk_token_id: number | undefined };
};

/** Config of a tokenizer that adds no blank of its own in front: for text that continues other text. */
function withoutPrefixBlank(tokenizer: TokenizerJson): TokenizerJson {
  const strip = (config: Named | null, key: string): Named | null => {
    if (config === null || config.type === 'Prepend') return null;
    if (config.type === 'Metaspace') return { ...config, prepend_scheme: 'never', add_prefix_space: false };
    if (config.type === 'ByteLevel') return { ...config, add_prefix_space: false };
    if (config.type !== 'Sequence') return config;
    const parts = (config[key] as Named[]).map((part) => strip(part, key)).filter((part) => part !== null);
    return parts.length === 0 ? null : { ...config, [key]: parts };
  };
  return {
    ...tokenizer,
    normalizer: strip(tokenizer.normalizer, 'normalizers'),
    pre_tokenizer: strip(tokenizer.pre_tokenizer as Named | null, 'pretokenizers') as TokenizerJson['pre_tokenizer'],
  };
}

/** Unigram may write any piece of its list, so the pieces of added tokens are made unwritable there; BPE needs merges. */
function withoutAdded(tokenizer: TokenizerJson): TokenizerJson {
  const { vocab } = tokenizer.model;
  if (!Array.isArray(vocab)) return { ...tokenizer, added_tokens: [] };
  const added = new Set(tokenizer.added_tokens.map((token) => token.content));
  const unknown = tokenizer.model.unk_id;
  const pieces = vocab.map(([piece, score], id): [string, number] =>
    added.has(piece) && id !== unknown ? [`\uffff\uffff${id}`, score] : [piece, score],
  );
  return { ...tokenizer, added_tokens: [], model: { ...tokenizer.model, vocab: pieces } };
}

export class LibraryEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #continuing: Tokenizer;

  /** Built without added tokens: their literals are text. */
  constructor(tokenizer: TokenizerJson, config: JsonObject) {
    const plain = withoutAdded(tokenizer);
    const settings = { ...config, clean_up_tokenization_spaces: false };
    this.#tokenizer = new Tokenizer(plain, settings);
    this.#continuing = new Tokenizer(withoutPrefixBlank(plain), settings);
  }

  /**
   * Appends the ids of one run of text. `section` is its place among runs and added tokens of the whole (0 = it begins
   * the text: some vocabularies put a blank in front only there); `continues`: the text goes on where other text ended.
   */
  encode(text: string, section: number, continues: boolean, out: IdBuffer): void {
    if (text.length === 0) return;
    const parts = (continues ? this.#continuing : this.#tokenizer) as unknown as Parts;
    this.#encodeParts(parts.normalizer ? parts.normalizer(text) : text, section, parts, out);
  }

  /** The same for text that went through normalize() already. */
  encodeNormalized(text: string, section: number, out: IdBuffer): void {
    this.#encodeParts(text, section, this.#tokenizer as unknown as Parts, out);
  }

  normalize(text: string): string {
    const { normalizer } = this.#tokenizer as unknown as Parts;
    return normalizer ? normalizer(text) : text;
  }

  #encodeParts(normalized: string, section: number, parts: Parts, out: IdBuffer): void {
    if (normalized.length === 0) return;
    const words = parts.pre_tokenizer ? parts.pre_tokenizer(normalized, { section_index: section }) : [normalized];
    const { tokens_to_ids: idOf, unk_token_id: unknown } = parts.model;
    for (const piece of parts.model(words)) {
      const id = idOf.get(piece) ?? unknown;
      if (id === undefined) {
        const message = 'the vocabulary has no token for some character of the text and no unknown token; remove it';
        throw new QuernError('INVALID_ARGUMENT', message, { reason: 'TEXT_UNENCODABLE' });
      }
      out.push(id);
    }
  }
}

/** The library's own decoding, for vocabularies whose decoder does more than join bytes. */
export class LibraryDecoder {
  readonly #tokenizer: Tokenizer;

  constructor(tokenizer: TokenizerJson, config: JsonObject) {
    this.#tokenizer = new Tokenizer(tokenizer, { ...config, clean_up_tokenization_spaces: false });
  }

  decode(ids: readonly number[], skipSpecial: boolean): string {
    if (ids.length === 0) return ''; // the library throws
    return this.#tokenizer.decode([...ids], { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: false });
  }
}
