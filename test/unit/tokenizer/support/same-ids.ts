// Comparing long lists of ids: the first difference with its neighbourhood, not two walls of numbers.
import assert from 'node:assert/strict';

export function assertIds(actual: ArrayLike<number>, expected: ArrayLike<number>, text: string): void {
  const length = Math.max(actual.length, expected.length);
  for (let i = 0; i < length; i += 1) {
    if (actual[i] === expected[i]) continue;
    const around = (ids: ArrayLike<number>): string =>
      Array.from(ids)
        .slice(Math.max(0, i - 3), i + 6)
        .join(' ');
    const shown = JSON.stringify(text.length > 400 ? `${text.slice(0, 400)}...` : text);
    assert.fail(`ids differ at ${i}: expected ... ${around(expected)}, got ... ${around(actual)} for ${shown}`);
  }
}
