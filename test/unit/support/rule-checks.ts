/** What a tidy rule finds in a text, and what it must leave alone. */
import assert from 'node:assert/strict';
import type { FileRule } from '../../tidy/rules.ts';

const found = (rule: FileRule, path: string, text: string): string[] =>
  rule({ path, text }).map(({ message }) => message);

/** Exactly one finding, with such a message. */
export function breaks(rule: FileRule, path: string, text: string, expected: RegExp): void {
  const messages = found(rule, path, text);
  assert.equal(
    messages.length,
    1,
    `expected one finding of ${rule.name} in ${path}, got: ${messages.join('; ') || 'none'}`,
  );
  assert.match(messages[0]!, expected);
}

export function keeps(rule: FileRule, path: string, text: string): void {
  assert.deepEqual(found(rule, path, text), [], `${rule.name} in ${path}: ${text}`);
}
