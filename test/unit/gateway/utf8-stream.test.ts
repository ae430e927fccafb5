import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Utf8Stream, unfinishedBytes } from '../../../services/gateway/utf8-stream.ts';

const oracle = new TextDecoder('utf-8', { ignoreBOM: true });
/** Bytes that mostly form characters, with broken ones among them. */
const bytes = fc
  .array(
    fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 4 }).map((s) => [...Buffer.from(s)]),
      fc.constantFrom([0xe0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90], [0xf0, 0x9f], [0xc3], [0xff], [0xef, 0xbb, 0xbf]),
      fc.array(fc.nat(255), { maxLength: 4 }),
    ),
    { maxLength: 10 },
  )
  .map((parts) => Uint8Array.from(parts.flat()));

test('every way of cutting equals one decode of the whole', () => {
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(60), { maxLength: 20 }), (whole, cuts) => {
      const places = [0, ...cuts.map((c) => Math.min(c, whole.length)), whole.length].sort((a, b) => a - b);
      const stream = new Utf8Stream();
      let text = '';
      for (let i = 1; i < places.length; i += 1) text += stream.push(whole.subarray(places[i - 1], places[i]));
      assert.equal(text + stream.end(), oracle.decode(whole));
      assert.equal(stream.open, false);
    }),
    { numRuns: 5000 },
  );
});

test('only a character that can still be finished is held back', () => {
  const cases: [number[], number][] = [
    [[], 0],
    [[0x41], 0],
    [[0xc3], 1],
    [[0xe2, 0x82], 2],
    [[0xf0, 0x9f, 0x98], 3],
    [[0xf0, 0x9f, 0x98, 0x80], 0],
    [[0xe0, 0x80], 0],
    [[0xed, 0xa0], 0],
    [[0xf4, 0x90], 0],
    [[0xc0], 0],
    [[0x80, 0x80, 0x80], 0],
  ];
  for (const [input, tail] of cases) assert.equal(unfinishedBytes(Uint8Array.from(input)), tail, `${input}`);
});
