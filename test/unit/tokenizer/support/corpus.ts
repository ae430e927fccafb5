// Text for tests: real source of this tree and of pinned packages, and strings made to break tokenizers.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../../../..');

/** Files in several languages, natural and other: they are pinned by the lockfile or part of the tree. */
const FILES = [
  'node_modules/@grpc/grpc-js/build/src/internal-channel.js',
  'node_modules/@huggingface/jinja/src/runtime.ts',
  'node_modules/zod/v4/locales/ru.js',
  'node_modules/zod/v4/locales/ja.js',
  'node_modules/zod/v4/locales/th.js',
  'node_modules/zod/v4/locales/ar.js',
  'node_modules/zod/v4/locales/ko.js',
  'node_modules/zod/v4/locales/vi.js',
  'node_modules/zod/README.md',
  'engine-native/include/engine/engine.h',
  'services/gen/quern/gateway/v1/gateway.ts',
  'proto/quern/gateway/v1/gateway.proto',
  'LICENSE',
];

/** About `units` UTF-16 units of mixed source. */
export function mixedSource(units: number): string {
  const parts: string[] = [];
  let length = 0;
  for (let round = 0; length < units; round += 1) {
    for (const file of FILES) {
      const text = readFileSync(join(root, file), 'utf8');
      // Later rounds differ from earlier ones: other line ends, other words.
      const varied =
        round === 0
          ? text
          : text.replaceAll(/\b[a-z]+(?=[A-Z])/g, (word) => `${word}${round}`).replaceAll('\n', '\r\n');
      parts.push(varied);
      length += varied.length;
    }
  }
  return parts.join('\n').slice(0, units);
}

/** A small seeded generator (mulberry32), so that a failing string can be made again. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const FRAGMENTS = [
  ...[
    'a',
    'Z',
    'foo',
    'Bar',
    'return',
    'const',
    'ſ',
    'K',
    'ß',
    'İ',
    'ǆ',
    'é',
    'e\u0301',
    'Å',
    'A\u030a',
    '\u212b',
    'ﬁ',
    'ü',
  ],
  ...['0', '1', '42', '1234567', '٣', '½', '²', 'Ⅷ', '𝟘', '१२'],
  ...[
    ' ',
    '  ',
    '   ',
    '\t',
    '\t\t',
    '\n',
    '\n\n',
    '\r\n',
    '\r',
    '\u00a0',
    '\u2003',
    '\u3000',
    '\u0085',
    '\u2028',
    '\v',
    '\f',
    '\u200b',
  ],
  ...["'s", "'t", "'re", "'VE", "'m", "'lL", "'d", "'", "''", "'x", "don't", "WE'LL", "'ſ"],
  ...[
    '.',
    ',',
    '!',
    '?',
    '...',
    '==',
    '=>',
    '{',
    '}',
    '()',
    '[]',
    '<',
    '>',
    '<|',
    '|>',
    '/*',
    '*/',
    '//',
    '#',
    '$',
    '@',
    '\\',
    '"',
    '`',
    '_',
    '__',
  ],
  ...[
    '😀',
    '👨‍👩‍👧‍👦',
    '🇩🇪',
    '👍🏽',
    '❤️',
    '☃',
    '€',
    '→',
    '∑',
    '𝒳',
    '𐍈',
    '한국어',
    '日本語',
    '漢字',
    '中文',
    'ไทย',
    'नमस्ते',
    'عربي',
    'שלום',
    'Ελλάδα',
    'Привет',
  ],
  ...[
    '\ud800',
    '\udc00',
    '\udbff',
    '\udfff',
    '\ud83d',
    '\ude00',
    '\ufffd',
    '\ufeff',
    '\u0000',
    '\u007f',
    '\u00ad',
    '\ue000',
    '\uffff',
    '\u0301',
  ],
  ...[
    '<|im_end|>',
    '<|im_start|>',
    '<|endoftext|>',
    '<tool_call>',
    '</tool_call>',
    '<think>',
    '<|fim_prefix|>',
    '<|im_end',
    'im_end|>',
    '<|im_end|><|im_end|>',
  ],
  ...['constructor', '__proto__', 'hasOwnProperty', 'toString', '<s>', '</s>', '<0x0A>', '▁', 'Ġ', 'Ċ'],
];

/** One random string of up to a few dozen fragments and random code units. */
export function fuzzString(random: () => number): string {
  const count = Math.floor(random() * (random() < 0.05 ? 60 : 14));
  let text = '';
  for (let i = 0; i < count; i += 1) {
    const dice = random();
    if (dice < 0.85) text += FRAGMENTS[Math.floor(random() * FRAGMENTS.length)]!;
    else if (dice < 0.95) text += String.fromCharCode(Math.floor(random() * 0x10000));
    else text += String.fromCharCode(32 + Math.floor(random() * 95)).repeat(1 + Math.floor(random() * 60));
  }
  return text;
}

export function fuzzStrings(count: number, seed: number): string[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => fuzzString(random));
}
