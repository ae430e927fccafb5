// Text to ids for byte-level BPE vocabularies: one pass to find the words, a look-up per word, merging on a miss.
// Texts never become strings per word: all loops run over UTF-16 units in typed arrays.

import { WordMerger } from './bpe.ts';
import { pieceOfBytes } from './byte-alphabet.ts';
import type { IdBuffer } from './id-buffer.ts';
import { CACHED_WORD_IDS_MAX, CACHED_WORD_UNITS_MAX, SCRATCH_UNITS_KEPT_MAX } from './limits.ts';
import type { MergeTable } from './merge-table.ts';
import { hashWord, WordCache } from './word-cache.ts';
import { clearWordEnds, createWordEnds, type Splitter } from './word-ends.ts';

export type NormalForm = 'NFC' | 'NFD' | 'NFKC' | 'NFKD';

export type ByteLevelModel = {
  /** Applied to the text before it is split. */
  normalForms: readonly NormalForm[];
  splitters: readonly Splitter[];
  /** A blank before text that does not begin with one. */
  addPrefixSpace: boolean;
  /** Id of each byte: Int32Array[256]. */
  byteIds: Int32Array;
  merges: MergeTable;
  /** For models that take a whole word of the vocabulary as it is (ignore_merges): its id. Null: always merge. */
  wholeWords: ReadonlyMap<string, number> | null;
};

/** Units below this have the same text in every normal form (NFC and NFD differ from U+00C0, NFKC from U+00A0). */
const NEEDS_NORMALIZING = /[\u00a0-\uffff]/;

/** Not reentrant: one text at a time, as everything here is synchronous. */
export class ByteLevelEncoder {
  readonly #model: ByteLevelModel;
  readonly #merger: WordMerger;
  readonly #cache = new WordCache();
  readonly #words = createWordEnds();
  readonly #between = createWordEnds();
  #units = new Uint16Array(4096);
  #bytes = Buffer.from(this.#units.buffer);
  #utf8 = new Uint8Array(256);
  #symbols = new Int32Array(256);

  constructor(model: ByteLevelModel) {
    this.#model = model;
    this.#merger = new WordMerger(model.merges);
  }

  /** Appends the ids of `text` to `out`. Added tokens are not looked for. */
  encode(text: string, out: IdBuffer): void {
    const ready = this.#prepare(text);
    if (ready.length === 0) return;
    this.#load(ready);
    this.#split(ready);
    this.#encodeWords(out);
  }

  /** The text as the pretokenizer gets it. */
  #prepare(text: string): string {
    let ready = text;
    if (this.#model.normalForms.length > 0 && NEEDS_NORMALIZING.test(text)) {
      for (const form of this.#model.normalForms) ready = ready.normalize(form);
    }
    return this.#model.addPrefixSpace && ready.length > 0 && !ready.startsWith(' ') ? ` ${ready}` : ready;
  }

  #load(text: string): void {
    const oversized = this.#units.length > SCRATCH_UNITS_KEPT_MAX && text.length <= SCRATCH_UNITS_KEPT_MAX;
    if (this.#units.length < text.length || oversized) {
      this.#units = new Uint16Array(Math.max(4096, text.length));
      this.#bytes = Buffer.from(this.#units.buffer);
    }
    this.#bytes.write(text, 'utf16le'); // little-endian machines only, as is every platform of Node 24
  }

  #split(text: string): void {
    const { splitters } = this.#model;
    const units = this.#units;
    let words = this.#words;
    clearWordEnds(words, text.length);
    if (splitters.length === 0) {
      words.ends[words.count++] = text.length;
      return;
    }
    splitters[0]!(text, units, 0, text.length, words);
    for (let stage = 1; stage < splitters.length; stage += 1) {
      const coarse = this.#between;
      clearWordEnds(coarse, text.length);
      coarse.ends.set(words.ends.subarray(0, words.count));
      coarse.count = words.count;
      clearWordEnds(words, text.length);
      let from = 0;
      for (let i = 0; i < coarse.count; i += 1) {
        const to = coarse.ends[i]!;
        splitters[stage]!(text, units, from, to, words);
        from = to;
      }
      words = this.#words;
    }
  }

  #encodeWords(out: IdBuffer): void {
    const { ends, count } = this.#words;
    const units = this.#units;
    const cache = this.#cache;
    out.reserve(2 * count + CACHED_WORD_IDS_MAX);
    let ids = out.ids;
    let written = out.count;
    let from = 0;
    for (let i = 0; i < count; i += 1) {
      const to = ends[i]!;
      if (written + CACHED_WORD_IDS_MAX > ids.length) {
        out.count = written;
        out.reserve(ids.length);
        ids = out.ids;
      }
      if (to - from <= CACHED_WORD_UNITS_MAX) {
        const hash = hashWord(units, from, to);
        const known = cache.read(units, from, to, hash, ids, written);
        if (known > 0) written += known;
        else {
          const made = this.#mergeWord(from, to);
          cache.write(units, from, to, hash, this.#symbols, made);
          out.count = written;
          this.#emit(out, made);
          ids = out.ids;
          written = out.count;
        }
      } else {
        out.count = written;
        this.#emit(out, this.#mergeWord(from, to));
        ids = out.ids;
        written = out.count;
      }
      from = to;
    }
    out.count = written;
    this.#shrink();
  }

  #emit(out: IdBuffer, made: number): void {
    out.reserve(made + CACHED_WORD_IDS_MAX);
    const { ids } = out;
    let at = out.count;
    for (let i = 0; i < made; i += 1) ids[at++] = this.#symbols[i]!;
    out.count = at;
  }

  /** Ids of units[from..to) into #symbols; returns how many. */
  #mergeWord(from: number, to: number): number {
    const length = this.#writeUtf8(from, to);
    const utf8 = this.#utf8;
    const { byteIds, wholeWords } = this.#model;
    if (wholeWords) {
      const id = wholeWords.get(pieceOfBytes(utf8, 0, length));
      if (id !== undefined) {
        this.#symbols[0] = id;
        return 1;
      }
    }
    const symbols = this.#symbols;
    for (let i = 0; i < length; i += 1) symbols[i] = byteIds[utf8[i]!]!;
    return this.#merger.merge(symbols, length);
  }

  /** units[from..to) as UTF-8 into #utf8, a lone surrogate as U+FFFD; returns the number of bytes. */
  #writeUtf8(from: number, to: number): number {
    const room = 3 * (to - from);
    if (this.#utf8.length < room) {
      this.#utf8 = new Uint8Array(room);
      this.#symbols = new Int32Array(room);
    }
    const utf8 = this.#utf8;
    const units = this.#units;
    let length = 0;
    for (let i = from; i < to; i += 1) {
      let code = units[i]!;
      if (code < 0x80) {
        utf8[length++] = code;
        continue;
      }
      if (code < 0x800) {
        utf8[length++] = 0xc0 | (code >> 6);
        utf8[length++] = 0x80 | (code & 0x3f);
        continue;
      }
      if ((code & 0xf800) === 0xd800) {
        const low = (code & 0xfc00) === 0xd800 && i + 1 < to ? units[i + 1]! : 0;
        if ((low & 0xfc00) === 0xdc00) {
          i += 1;
          code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
          utf8[length++] = 0xf0 | (code >> 18);
          utf8[length++] = 0x80 | ((code >> 12) & 0x3f);
          utf8[length++] = 0x80 | ((code >> 6) & 0x3f);
          utf8[length++] = 0x80 | (code & 0x3f);
          continue;
        }
        code = 0xfffd;
      }
      utf8[length++] = 0xe0 | (code >> 12);
      utf8[length++] = 0x80 | ((code >> 6) & 0x3f);
      utf8[length++] = 0x80 | (code & 0x3f);
    }
    return length;
  }

  #shrink(): void {
    if (this.#utf8.length <= SCRATCH_UNITS_KEPT_MAX) return;
    this.#utf8 = new Uint8Array(256);
    this.#symbols = new Int32Array(256);
  }
}
