// The pretokenizer of tokenizer.json as splitters over UTF-16 units: hand-written ones for the well-known patterns, the
// library's own regular expressions for the rest. Null where only the whole library will do.
import * as tokenizers from '@huggingface/tokenizers';
import { assert } from '#kit/assert.ts';
import { createDigitsSplitter, knownSplitter, splitGpt2 } from './splitters.ts';
import type { Splitter } from './word-ends.ts';

export type PreTokenizerConfig = { readonly type: string; readonly [key: string]: unknown };

export type ByteLevelPreTokenizer = { splitters: Splitter[]; addPrefixSpace: boolean };

type Words = { pre_tokenize_text(text: string): string[] };

/** The package's types name these through imports that do not resolve under nodenext. */
const library = tokenizers as unknown as Record<
  'SplitPreTokenizer' | 'PunctuationPreTokenizer',
  new (
    config: PreTokenizerConfig,
  ) => Words
>;

/** The library's splitting as a Splitter; only for pretokenizers whose words are the whole text, in order. */
function librarySplitter(pretokenizer: Words): Splitter {
  return (text, _units, from, to, words) => {
    let end = from;
    for (const word of pretokenizer.pre_tokenize_text(from === 0 && to === text.length ? text : text.slice(from, to))) {
      end += word.length;
      words.ends[words.count++] = end;
    }
    assert(end === to, 'a pretokenizer lost text');
  };
}

function isIsolated(config: PreTokenizerConfig): boolean {
  // The library treats every behavior but Removed as Isolated; Isolated is the only one that it gets right.
  return String(config.behavior).toLowerCase() === 'isolated' && config.invert !== true;
}

function splitterOf(config: PreTokenizerConfig): Splitter | null {
  switch (config.type) {
    case 'Split': {
      if (!isIsolated(config)) return null;
      const { Regex: pattern } = (config.pattern ?? {}) as { Regex?: string };
      const known = typeof pattern === 'string' ? knownSplitter(pattern) : null;
      return known ?? librarySplitter(new library.SplitPreTokenizer(config));
    }
    case 'Digits':
      return createDigitsSplitter(config.individual_digits === true);
    case 'Punctuation':
      return librarySplitter(new library.PunctuationPreTokenizer(config));
    default:
      return null;
  }
}

/** The stages before ByteLevel and ByteLevel's own; null when a stage needs the library or ByteLevel is not the last. */
export function byteLevelPreTokenizer(config: PreTokenizerConfig | null): ByteLevelPreTokenizer | null {
  if (config === null) return null;
  const stages = config.type === 'Sequence' ? (config.pretokenizers as PreTokenizerConfig[]) : [config];
  const last = stages.at(-1);
  if (last?.type !== 'ByteLevel') return null;
  const addPrefixSpace = last.add_prefix_space === true;
  // Within a sequence the library puts a blank before every word of the earlier stages.
  if (addPrefixSpace && stages.length > 1) return null;
  const splitters: Splitter[] = [];
  for (const stage of stages.slice(0, -1)) {
    const splitter = splitterOf(stage);
    if (!splitter) return null;
    splitters.push(splitter);
  }
  if (last.use_regex !== false) splitters.push(splitGpt2);
  return { splitters, addPrefixSpace };
}
