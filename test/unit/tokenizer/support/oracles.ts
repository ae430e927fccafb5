// The two references for ids: @huggingface/tokenizers and the Rust tokenizers behind their Node binding.
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { Tokenizer as RustTokenizer } from 'tokenizers';
import type { TokenizerJson } from '../../../../services/tokenizer/model-files.ts';

export type Oracle = { encode(text: string): number[] };

/** The library as it is: every added token counts. */
export function libraryOracle(tokenizer: TokenizerJson): Oracle {
  const library = new LibraryTokenizer(tokenizer, { clean_up_tokenization_spaces: false });
  return { encode: (text) => library.encode(text, { add_special_tokens: false }).ids };
}

/** The library built without added tokens: what untrusted text must give. */
export function plainLibraryOracle(tokenizer: TokenizerJson): Oracle {
  return libraryOracle({ ...tokenizer, added_tokens: [] });
}

export function libraryDecoder(tokenizer: TokenizerJson): (ids: number[], skipSpecial: boolean) => string {
  const library = new LibraryTokenizer(tokenizer, { clean_up_tokenization_spaces: false });
  return (ids, skipSpecial) => library.decode(ids, { skip_special_tokens: skipSpecial });
}

export type AsyncOracle = { encodeAll(texts: readonly string[]): Promise<number[][]> };

export function rustOracle(tokenizer: TokenizerJson): AsyncOracle {
  const rust = RustTokenizer.fromString(JSON.stringify(tokenizer));
  return {
    async encodeAll(texts) {
      const encodings = await rust.encodeBatch([...texts], { addSpecialTokens: false });
      return encodings.map((encoding) => encoding.getIds());
    },
  };
}

/**
 * Characters on which the library and the Rust tokenizers differ: \s (U+0085, U+FEFF) in GPT-2's pattern, the case folding
 * of U+017F, and which characters are digits to Digits and to \w. Ours follow the library.
 */
export const ORACLES_DIFFER = /[\u0085\ufeff\u017f\u212a]/;
export const DIGITS_DIFFER = /(?![0-9])\p{N}/u;
