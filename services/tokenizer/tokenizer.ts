// One model's tokenizer: text to ids with a choice of which added tokens count, and ids to text.
import { type AddedToken, type AddedTokenSplitter, createAddedTokenSplitter, type Section } from './added-tokens.ts';
import { ByteLevelEncoder } from './byte-level-encoder.ts';
import { byteLevelModel } from './byte-level-model.ts';
import { FIM_LITERALS } from './fim-families.ts';
import { IdBuffer } from './id-buffer.ts';
import { LibraryDecoder, LibraryEncoder } from './library-encoder.ts';
import type { ModelFiles, TokenizerJson } from './model-files.ts';
import { leadingIds } from './special-tokens.ts';
import { checkIds, createVocabulary, joinBytes, modelIds, type Vocabulary } from './vocabulary.ts';

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

  /** Throws MODEL_LOAD_FAILED when the files do not make a tokenizer. Keeps nothing of `files`. */
  constructor(files: ModelFiles) {
    const { tokenizer, tokenizerConfig } = files;
    const own = modelIds(tokenizer);
    const vocabulary = createVocabulary(files, own);
    this.vocabulary = vocabulary;
    const model = byteLevelModel(files, vocabulary.kind, own);
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
    this.bosIds = leadingIds(files, vocabulary);
  }

  /** Ids of a whole text, by itself. */
  encode(text: string, parseSpecial: ParseSpecial): Uint32Array {
    this.#scratch.clear();
    if (parseSpecial === 'none') this.encodeUntrusted(text, this.#scratch);
    else this.#encodeSections(text, this.#splitters[parseSpecial], this.#scratch);
    return this.#scratch.toIds();
  }

  /** Ids of a piece of untrusted text at its place in a prompt. */
  encodePart(text: string, place: TextPlace): Uint32Array {
    this.#scratch.clear();
    this.encodeUntrusted(text, this.#scratch, place);
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

  /**
   * Appends the ids of a rendered template: literals of added tokens become their ids, the text between
   * them goes through `clean` first. Returns the literals in order; `end` counts the ids up to and with each.
   */
  encodeRendered(prompt: string, clean: (run: string) => string, out: IdBuffer): { id: number; end: number }[] {
    const literals: { id: number; end: number }[] = [];
    const { raw, normalized } = this.#splitters.all;
    const write = ({ text, token }: Section, section: number): void => {
      if (token) {
        out.push(token.id);
        literals.push({ id: token.id, end: out.count });
      } else this.encodeUntrusted(clean(text), out, { section, continues: false });
    };
    for (const [index, section] of raw.split(prompt).entries()) {
      if (section.token || normalized.isEmpty) write(section, index);
      else for (const part of normalized.split(section.text)) write(part, index);
    }
    return literals;
  }

  /** Ids of the literals in a rendered template, in order, and where they begin. */
  literalsOf(prompt: string): { at: number; token: AddedToken }[] {
    const { raw, normalized } = this.#splitters.all;
    const found = raw.find(prompt);
    if (normalized.isEmpty) return found;
    return [...found, ...normalized.find(prompt)].sort((a, b) => a.at - b.at);
  }

  /** Text of `ids`; bytes that are no UTF-8 become U+FFFD. Throws INVALID_ARGUMENT for ids outside the vocabulary. */
  decode(ids: readonly number[], options: { skipSpecial: boolean }): string {
    checkIds(this.vocabulary, ids, 'token_ids');
    if (this.#decoder) return this.#decoder.decode(ids, options.skipSpecial);
    // ignoreBOM: a leading U+FEFF is text like any other.
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(joinBytes(this.vocabulary, ids, options.skipSpecial));
  }
}
