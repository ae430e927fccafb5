// Newline-separated JSON-RPC out of a stream of bytes that may be cut anywhere.
import { type JSONRPCMessage, JSONRPCMessageSchema } from '@modelcontextprotocol/sdk/types.js';

const NEWLINE = 10;

/** Cuts bytes into lines. Holds at most `bytesMax` of an unfinished one, and costs linear time whatever the cuts. */
export class LineCutter {
  readonly #bytesMax: number;
  #kept = Buffer.alloc(0);
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The lines that are whole now, without their ends; null: one is longer than bytesMax, and nothing more can be cut. */
  add(data: Uint8Array): Buffer[] | null {
    const lines: Buffer[] = [];
    let from = 0;
    for (let end = data.indexOf(NEWLINE); end !== -1; end = data.indexOf(NEWLINE, from)) {
      if (!this.#keep(data.subarray(from, end))) return null;
      lines.push(Buffer.from(this.#kept.subarray(0, this.#bytes)));
      this.#bytes = 0;
      from = end + 1;
    }
    return this.#keep(data.subarray(from)) ? lines : null;
  }

  #keep(part: Uint8Array): boolean {
    const bytes = this.#bytes + part.length;
    if (bytes > this.#bytesMax) return false;
    if (bytes > this.#kept.length) {
      const larger = Buffer.alloc(Math.max(bytes, 2 * this.#kept.length));
      larger.set(this.#kept.subarray(0, this.#bytes));
      this.#kept = larger;
    }
    this.#kept.set(part, this.#bytes);
    this.#bytes = bytes;
    return true;
  }
}

/** Null: not a JSON-RPC message. */
export function parseMessage(line: Buffer): JSONRPCMessage | null {
  try {
    const parsed = JSONRPCMessageSchema.safeParse(JSON.parse(line.toString('utf8')));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
