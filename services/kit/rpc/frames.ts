// gRPC's length-prefixed messages (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): one byte that says whether the
// message is compressed, its length as four bytes, most significant first, and the message.
import { QuernError } from '#kit/errors.ts';

export const FRAME_HEADER_BYTES = 5;

export function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, FRAME_HEADER_BYTES);
  return frame;
}

/** Invariant: the messages are those that were framed, in order, however their bytes were cut on the way. */
export class FrameReader {
  readonly #maxBytes: number;
  /** What has come of a message that is not whole yet, and how much of it must be there to go on. */
  #parts: Buffer[] = [];
  #have = 0;
  #need = FRAME_HEADER_BYTES;

  constructor(maxMessageBytes: number) {
    this.#maxBytes = maxMessageBytes;
  }

  /** True between two messages. */
  get isEmpty(): boolean {
    return this.#have === 0;
  }

  /**
   * Gives every message that `chunk` completes to `take`, as a view of the bytes that came. Throws RESOURCE_EXHAUSTED for one above
   * the limit and INTERNAL for a compressed one, which nobody asked for; nothing can be read after that.
   */
  read(chunk: Buffer, take: (message: Buffer) => void): void {
    this.#parts.push(chunk);
    this.#have += chunk.length;
    if (this.#have < this.#need) return;
    const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts, this.#have);
    let at = 0;
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      const end = at + FRAME_HEADER_BYTES + this.#lengthAt(bytes, at);
      if (end > bytes.length) break;
      take(bytes.subarray(at + FRAME_HEADER_BYTES, end));
      at = end;
    }
    this.#keep(bytes.subarray(at));
  }

  #keep(rest: Buffer): void {
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#have = rest.length;
    this.#need = FRAME_HEADER_BYTES + (rest.length < FRAME_HEADER_BYTES ? 0 : this.#lengthAt(rest, 0));
  }

  #lengthAt(bytes: Buffer, at: number): number {
    if (bytes[at] !== 0) {
      const message = 'gRPC: expected an uncompressed message, got a compressed one; the peer must send identity';
      throw new QuernError('INTERNAL', message, { reason: 'COMPRESSED_MESSAGE' });
    }
    const length = bytes.readUInt32BE(at + 1);
    if (length > this.#maxBytes) {
      const message = `gRPC: expected a message of at most ${this.#maxBytes} bytes, got one of ${length}`;
      throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'MESSAGE_TOO_LARGE' });
    }
    return length;
  }
}
