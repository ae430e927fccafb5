/** Messages out of bytes: whatever the cuts, the same lines; never more than the bound in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LineCutter, parseMessage } from '../../../../services/tools/mcp/message-lines.ts';

test('lines do not depend on where the stream is cut', () => {
  const pieces = fc.array(fc.string({ unit: 'binary', maxLength: 40 }), { maxLength: 12 });
  fc.assert(
    fc.property(pieces, fc.array(fc.nat(200), { maxLength: 20 }), (lines, cuts) => {
      const expected = lines.map((line) => line.replaceAll('\n', ' '));
      const data = Buffer.from(expected.map((line) => `${line}\n`).join(''));
      const cutter = new LineCutter(4096);
      const got: string[] = [];
      const places = [0, ...cuts.map((cut) => Math.min(cut, data.length)).sort((a, b) => a - b), data.length];
      for (let i = 1; i < places.length; i++) {
        for (const line of cutter.add(data.subarray(places[i - 1], places[i]))!) got.push(line.toString());
      }
      assert.deepEqual(
        got,
        expected.map((line) => Buffer.from(line).toString()),
      );
    }),
  );
});

test('a line may be as long as the bound, not longer, whole or in parts', () => {
  const fits = new LineCutter(10);
  assert.deepEqual(fits.add(Buffer.from('0123456789\nab'))?.map(String), ['0123456789']);
  assert.equal(fits.add(Buffer.from('cdefghijk')), null);
  assert.equal(new LineCutter(10).add(Buffer.from('0123456789x\n')), null);
});

test('a byte at a time costs linear time', () => {
  const cutter = new LineCutter(1_000_000);
  const since = performance.now();
  for (let i = 0; i < 1_000_000; i++) cutter.add(Buffer.from('x'));
  assert.equal(cutter.add(Buffer.from('\n'))?.[0]?.length, 1_000_000);
  assert(performance.now() - since < 20_000);
});

test('what is no JSON-RPC message', () => {
  const good = '{"jsonrpc":"2.0","id":1,"result":{}}';
  assert.deepEqual(parseMessage(Buffer.from(good)), JSON.parse(good));
  for (const bad of [
    '',
    'hello',
    '{}',
    '[]',
    'null',
    `[${good}]`,
    '{"jsonrpc":"1.0","id":1,"result":{}}',
    '{"jsonrpc":"2.0"',
  ]) {
    assert.equal(parseMessage(Buffer.from(bad)), null, bad);
  }
});
