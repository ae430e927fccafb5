/** docs/troubleshooting.md quotes messages as the program prints them: each must still be in the program. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const WORDS_MIN = 4;

/** Messages that Node's TLS writes, not Quern. */
const FOREIGN = [
  /altnames/,
  /self-signed certificate|unable to verify|alert certificate/,
  /DeprecationWarning/,
  /Failed to connect/,
];

function sourceText(): string {
  const texts: string[] = [];
  for (const folder of ['services', 'engine-native/src']) {
    for (const file of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (/\.(ts|cc|h)$/.test(file) && !file.startsWith('gen/'))
        texts.push(readFileSync(join(ROOT, folder, file), 'utf8'));
    }
  }
  // A message that is written over two lines is one message.
  return texts
    .join('\n')
    .replace(/['"`]\s*\+?\s*['"`]/g, '')
    .replace(/\s+/g, ' ');
}

/** What the first column of the tables quotes. */
function quotedMessages(text: string): string[] {
  const cells = text
    .split('\n')
    .filter((line) => /^\| [^-s]/.test(line))
    .map((line) => line.split(' | ')[0] ?? '');
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1] as string));
}

/** The longest run of whole words of the message that the source has, counted in words. */
function wordsInSource(message: string, source: string): number {
  const words = message.split(' ');
  let longest = 0;
  for (let from = 0; from < words.length; from += 1) {
    while (from + longest < words.length && source.includes(words.slice(from, from + longest + 1).join(' ')))
      longest += 1;
  }
  return longest;
}

/** Messages that consist of values more than of words, and the test that makes the program print them. */
const MADE_ELSEWHERE: [message: RegExp, file: string, there: string][] = [
  [/hidden_act/, 'test/e2e/cli-failures.test.ts', 'hidden_act: expected "silu", got "gelu"'],
  [/mistake in the environment/, 'test/e2e/cli-failures.test.ts', '1 mistake in the environment:'],
  [/data_offsets/, 'test/native/weights_test.cc', "leave the file's"],
  [/which expired on/, 'test/unit/kit/env-files.test.ts', 'which expired on'],
  [/has no field/, 'test/e2e/cli-commands.test.ts', 'has no field "promt"; did you mean "text" or "token_ids"'],
  [/expected a line from/, 'test/unit/cli/infill-place.test.ts', 'expected a line from'],
  [/^npm took/, 'test/unit/scripts/npm-options.test.ts', ' for itself: options for Quern stand behind a bare'],
  [/^no model "gpt" here/, 'test/e2e/cli-commands.test.ts', 'no model "gpt" here; served: "quern-mini"'],
];

test('every quoted message is in the source', () => {
  const source = sourceText();
  const messages = quotedMessages(readFileSync(join(ROOT, 'docs', 'troubleshooting.md'), 'utf8')).filter(
    (message) => message.split(' ').length >= WORDS_MIN && !FOREIGN.some((foreign) => foreign.test(message)),
  );
  assert.ok(messages.length > 20, `only ${messages.length} messages found: has the table's form changed?`);
  const gone = messages
    .filter((message) => !MADE_ELSEWHERE.some(([made]) => made.test(message)))
    .filter((message) => wordsInSource(message, source) < WORDS_MIN);
  assert.deepEqual(gone, []);
});

test('what the source holds only in pieces is printed by another test', () => {
  for (const [, file, text] of MADE_ELSEWHERE) {
    const there = readFileSync(join(ROOT, file), 'utf8').replaceAll('\\', '');
    assert.ok(there.includes(text), `${file} no longer has: ${text}`);
  }
});
