import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fittingUnits, headBytes, shortText, tailBytes } from '#kit/text-cut.ts';

const TEXT = 'aä€😀'.repeat(4);

test('text of at most so many units, never half a character, with a mark where it was cut', () => {
  for (let units = 1; units <= TEXT.length + 1; units += 1) {
    const short = shortText(TEXT, units);
    assert.ok(short.length <= units && short.isWellFormed(), `${units}: ${short}`);
    if (units >= TEXT.length) assert.equal(short, TEXT);
    else {
      assert.ok(short.endsWith('…') && TEXT.startsWith(short.slice(0, -1)));
      assert.ok(short.length >= units - 1, 'as much as fits');
    }
  }
  assert.equal(shortText('', 1), '');
});

test('bytes of at most so many, from the start and from the end, are whole characters', () => {
  const bytes = Buffer.from(TEXT);
  for (let max = 0; max <= bytes.length + 1; max += 1) {
    const [head, tail] = [headBytes(bytes, max), tailBytes(bytes, max)];
    for (const part of [head, tail]) {
      assert.ok(part.length <= max && !part.toString().includes('\ufffd'), String(max));
      assert.ok(part.length >= Math.min(bytes.length, max) - 3, 'as much as fits');
    }
    assert.equal(TEXT.slice(0, fittingUnits(TEXT, max)), head.toString());
    assert.equal(tailBytes(Buffer.from('€b').subarray(1), 2 + max).toString(), 'b');
    assert.ok(TEXT.startsWith(head.toString()) && TEXT.endsWith(tail.toString()));
  }
});
