// One model's tokenizer: text to ids with a choice of which added tokens count, and ids to text.
import { type AddedToken, type AddedTokenSplitter, createAddedTokenSplitter } from './added-tokens.ts';
import { ByteLevelEncoder } from './byte-level-encoder.ts';
import { byteLevelModel } from './byte-level-model.ts';
import { FIM_LITERALS } from './fim-families.ts';
import { IdBuffer } from './id-buffer.ts';
import { LibraryDecoder, LibraryEncoder } from './library-encoder.ts';
import type { JsonObject, ModelFiles, TokenizerJson } from './model-files.ts';
import { checkIds, joinBytes, type Vocabulary } from './vocabulary.ts';

/** Which literals become their ids: of no added token, of fill-in-the-middle and repository markers, of all. */
export type ParseSpecial = 'none' | 'fim' | 'all';

/** Where untrusted text stands: `section` 0 begins the prompt, `continues` goes on inside a text. */
export type TextPlace = { section: number; continues: boolean };

const BEGINS: TextPlace = { section: 0, continues: false };

type Splitters = { raw: AddedTokenSplitter; normalized: AddedTokenSplitter };

type Normalize = (text: string) => string;

function addedTokens(tokenizer: TokenizerJson): AddedToken[] {
  return tokenizer.added_tokens.map((token) => ({
    id: token.id,
    content: token.content,
    lstrip: token.lstrip ?? false,
    rstrip: token.rstrip ?? false,
    normalized: tokenizer.normalizer !== null && (token.normalized ?? token.special !== true),
    special: token.special ?? false,
  }));
}

function splittersOf(tokens: readonly AddedToken[], normalize: Normalize): Splitters {
  return {
    raw: createAddedTokenSplitter(tokens.filter((token) => !token.normalized)),
    normalized: createAddedTokenSplitter(
      tokens.filter((token) => token.normalized),
      (token) => normalize(token.content),
    ),
  };
}

export class TextTokenizer {
  readonly vocabulary: Vocabulary;
  readonly added: readonly AddedToken[];
  /** True: the fast path for byte-level BPE. False: the library. */
  readonly isByteLevel: boolean;
  /** Ids that the tokenizer puts in front of a text when asked for special tokens: [] or [BOS]. */
  readonly bosIds: readonly number[];
  readonly #byteLevel: ByteLevelEncoder | null;
  readonly #library: LibraryEncoder | null;
  readonly #decoder: LibraryDecoder | null;
  readonly #splitters: Record<'fim' | 'all', Splitters>;
  readonly #normalize: Normalize;
  readonly #scratch = new IdBuffer(4096);

  constructor(files: ModelFiles, vocabulary: Vocabulary) {
    const { tokenizer, tokenizerConfig } = files;
    this.vocabulary = vocabulary;
    const model = byteLevelModel(files, vocabulary);
    this.isByteLevel = model !== null;
    this.#byteLevel = model && new ByteLevelEncoder(model);
    this.#library = model ? null : new LibraryEncoder(tokenizer, tokenizerConfig);
    this.#decoder = vocabulary.kind === 'byte-level' ? null : new LibraryDecoder(tokenizer, tokenizerConfig);
    const forms = model?.normalForms ?? [];
    const library = this.#library;
    this.#normalize = library
      ? (text) => library.normalize(text)
      : (text) => forms.reduce((done, form) => done.normalize(form), text);
    this.added = addedTokens(tokenizer);
    const fim = this.added.filter((token) => FIM_LITERALS.has(token.content));
    this.#splitters = { all: splittersOf(this.added, this.#normalize), fim: splittersOf(fim, this.#normalize) };
    this.bosIds = bosIdsOf(tokenizer, tokenizerConfig, vocabulary);
  }

  /** Ids of a whole text, by itself. */
  encode(text: string, parseSpecial: ParseSpecial): Uint32Array {
    this.#scratch.clear();
    if (parseSpecial === 'none') this.encodeUntrusted(text, this.#scratch);
    else this.#encodeSections(text, this.#splitters[parseSpecial], this.#scratch);
    return this.#scratch.toIds();
  }

  /** Appends the ids of one run of text in which no added token counts. */
  encodeUntrusted(text: string, out: IdBuffer, place: TextPlace = BEGINS): void {
    if (this.#byteLevel) this.#byteLevel.encode(text, out);
    else this.#library!.encode(text, place.section, place.continues, out);
  }

  #encodeSections(text: string, splitters: Splitters, out: IdBuffer): void {
    let index = 0;
    for (const { text: section, token } of splitters.raw.split(text)) {
      if (token) out.push(token.id);
      else if (splitters.normalized.isEmpty) this.encodeUntrusted(section, out, { section: index, continues: false });
      else this.#encodeNormalized(section, index, splitters.normalized, out);
      index += 1;
    }
  }

  /** A section that may hold added tokens which are looked for in normalized text. */
  #encodeNormalized(section: string, index: number, splitter: AddedTokenSplitter, out: IdBuffer): void {
    const normalized = this.#normalize(section);
    for (const { text, token } of splitter.split(normalized)) {
      if (token) out.push(token.id);
      else if (this.#byteLevel) this.#byteLevel.encode(text, out);
      else this.#library!.encodeNormalized(text, index, out);
    }
  }

  /** Ids of the literals of any added token in `text`, with their places; for text that a template wrote. */
  literals(text: string): { at: number; token: AddedToken }[] {
    const found = this.#splitters.all.raw.find(text);
    const normalized = this.#splitters.all.normalized;
    return normalized.isEmpty ? found : [...found, ...normalized.find(text)].sort((a, b) => a.at - b.at);
  }

  /** Text of `ids`; bytes that are no UTF-8 become U+FFFD. Throws INVALID_ARGUMENT for ids outside the vocabulary. */
  decode(ids: readonly number[], options: { skipSpecial: boolean }): string {
    checkIds(this.vocabulary, ids, 'token_ids');
    if (this.#decoder) return this.#decoder.decode(ids, options.skipSpecial);
    // ignoreBOM: a leading U+FEFF is text like any other.
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(joinBytes(this.vocabulary, ids, options.skipSpecial));
  }
}

type Item = { SpecialToken?: { id: string }; Sequence?: { id: string } };

/** Ids in front of the first sequence in the post-processor; or BOS where the configuration asks for it by itself. */
function bosIdsOf(tokenizer: TokenizerJson, config: JsonObject, vocabulary: Vocabulary): number[] {
  const post = tokenizer.post_processor;
  const parts = post?.type === 'Sequence' ? ((post.processors ?? []) as { type: string }[]) : post ? [post] : [];
  const ids: number[] = [];
  for (const part of parts as { type: string; [key: string]: unknown }[]) {
    if (part.type === 'BertProcessing' || part.type === 'RobertaProcessing')
      ids.push((part.cls as [string, number])[1]);
    if (part.type !== 'TemplateProcessing') continue;
    for (const item of (part.single ?? []) as Item[]) {
      if (!item.SpecialToken) break;
      const id = vocabulary.idOf.get(item.SpecialToken.id);
      if (id !== undefined) ids.push(id);
    }
  }
  if (ids.length > 0 || config.add_bos_token !== true) return ids;
  const bos = tokenText(config.bos_token);
  const id = bos === null ? undefined : vocabulary.idOf.get(bos);
  return id === undefined ? [] : [id];
}

/** A token of tokenizer_config.json: a string or an object with its content. */
export function tokenText(value: unknown): string | null {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : null;
}
