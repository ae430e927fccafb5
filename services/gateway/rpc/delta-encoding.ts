// The one message that is written per token: a text delta without extras, encoded by hand. StreamCompleteResponse,
// InfillResponse and StreamChatResponse all hold it as field 2, so one encoder serves the three.
import type { TextDelta } from '#gen/quern/gateway/v1/gateway.ts';
import type { MethodDefinition } from '#kit/rpc/service.ts';

const FIELD_DELTA = 0x12; // 2, length-delimited
const FIELD_INDEX = 0x08; // 1, varint
const FIELD_TEXT = 0x12; // 2, length-delimited

function varintSize(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}

function writeVarint(buffer: Buffer, at: number, value: number): number {
  let rest = value;
  let place = at;
  while (rest >= 0x80) {
    buffer[place++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[place++] = rest;
  return place;
}

/** Bytes equal to the generated encoder's for { event: delta } with index and text only (checked by a test). */
export function encodeTextDelta(index: number, text: string): Buffer {
  const textSize = Buffer.byteLength(text);
  const indexSize = index === 0 ? 0 : 1 + varintSize(index);
  const inner = indexSize + (textSize === 0 ? 0 : 1 + varintSize(textSize) + textSize);
  const buffer = Buffer.allocUnsafe(1 + varintSize(inner) + inner);
  buffer[0] = FIELD_DELTA;
  let at = writeVarint(buffer, 1, inner);
  if (index !== 0) {
    buffer[at] = FIELD_INDEX;
    at = writeVarint(buffer, at + 1, index);
  }
  if (textSize === 0) return buffer;
  buffer[at] = FIELD_TEXT;
  at = writeVarint(buffer, at + 1, textSize);
  buffer.write(text, at, 'utf8');
  return buffer;
}

type Event = { event: { $case: string; value: unknown } | undefined };

/** The method with its plain deltas encoded the short way. */
export function withFastDeltas<M extends MethodDefinition>(method: M): M {
  const generated = method.responseSerialize as unknown as (value: Event) => Buffer;
  const responseSerialize = (message: Event): Buffer => {
    if (message.event?.$case !== 'delta') return generated(message);
    const delta = message.event.value as TextDelta;
    if (delta.logprobs.length > 0 || delta.tokenIds.length > 0) return generated(message);
    return encodeTextDelta(delta.index, delta.text);
  };
  return { ...method, responseSerialize: responseSerialize as unknown as M['responseSerialize'] };
}
