import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FRAME_HEADER_BYTES, FrameReader, frameOf } from '#kit/rpc/frames.ts';

/** Gives `bytes` to the reader in pieces that end at `cuts`. */
function readAll(reader: FrameReader, bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1))), bytes.length].sort((a, b) => a - b);
  const messages: Buffer[] = [];
  let from = 0;
  for (const end of ends) {
    reader.read(bytes.subarray(from, end), (message) => messages.push(message));
    from = end;
  }
  return messages;
}

test('messages are those that were framed, however their bytes are cut', () => {
  const message = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 60 }), (sent, cuts) => {
      const reader = new FrameReader(40);
      const read = readAll(reader, Buffer.concat(sent.map(frameOf)), cuts);
      assert.deepEqual(
        read.map((bytes) => [...bytes]),
        sent.map((bytes) => [...bytes]),
      );
      assert.equal(reader.isEmpty, true);
    }),
  );
});

test('a large message in many pieces is put together once', () => {
  const sent = Buffer.alloc(1 << 20, 7);
  const cuts = Array.from({ length: 64 }, (_, i) => i * 16_384);
  const [read] = readAll(new FrameReader(1 << 20), frameOf(sent), cuts);
  assert.ok(read?.equals(sent));
});

test('a frame is the flag, the length and the message', () => {
  assert.deepEqual([...frameOf(Buffer.from('abc'))], [0, 0, 0, 0, 3, 97, 98, 99]);
  assert.equal(frameOf(Buffer.alloc(0x0304)).readUInt32BE(1), 0x0304);
});

test('what is not whole is no message yet', () => {
  const reader = new FrameReader(100);
  const frame = frameOf(Buffer.from('abc'));
  for (let end = 1; end < frame.length; end += 1) {
    const fresh = new FrameReader(100);
    assert.deepEqual(readAll(fresh, frame.subarray(0, end), []), []);
    assert.equal(fresh.isEmpty, false);
  }
  assert.equal(readAll(reader, frame, []).length, 1);
});

test('a message above the limit is refused by its length, before its bytes have come', () => {
  const header = frameOf(Buffer.alloc(101)).subarray(0, FRAME_HEADER_BYTES);
  assert.throws(() => new FrameReader(100).read(header, () => {}), {
    code: 'RESOURCE_EXHAUSTED',
    details: { reason: 'MESSAGE_TOO_LARGE' },
    message: /at most 100 bytes, got one of 101/,
  });
  const messages: Buffer[] = [];
  new FrameReader(100).read(frameOf(Buffer.alloc(100)), (message) => messages.push(message));
  assert.equal(messages.length, 1);
});

test('a compressed message is refused, behind another one too', () => {
  const compressed = frameOf(Buffer.from('abc'));
  compressed[0] = 1;
  const before: string[] = [];
  const bytes = Buffer.concat([frameOf(Buffer.from('ok')), compressed]);
  assert.throws(() => new FrameReader(100).read(bytes, (message) => before.push(String(message))), {
    code: 'INTERNAL',
    details: { reason: 'COMPRESSED_MESSAGE' },
  });
  assert.deepEqual(before, ['ok']);
});
