// Incremental UTF-8 (WHATWG Encoding, "UTF-8 decoder"): pieces of bytes to whole characters. Equal, for every way of
// cutting the bytes, to one TextDecoder over all of them; bytes that can never become a character are U+FFFD at once.

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Bytes a character takes by its first byte; 0 for a byte that cannot begin a character of several bytes. */
function sequenceLength(first: number): number {
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  if (first >= 0xf0 && first <= 0xf4) return 4;
  return 0;
}

/** May `second` follow `first`? Excludes overlong forms, surrogates and code points above U+10FFFF. */
function secondFits(first: number, second: number): boolean {
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  return second >= low && second <= high;
}

/** Length of the unfinished character at the end of `bytes`, 0..3. */
export function unfinishedBytes(bytes: Uint8Array): number {
  const size = bytes.length;
  for (let tail = 1; tail <= Math.min(3, size); tail += 1) {
    const first = bytes[size - tail] as number;
    if ((first & 0xc0) === 0x80) continue; // a continuation byte: its first byte lies further left
    if (sequenceLength(first) <= tail) return 0;
    if (tail >= 2 && !secondFits(first, bytes[size - tail + 1] as number)) return 0;
    return tail;
  }
  return 0;
}

/** One text that arrives as bytes. */
export class Utf8Stream {
  #pending: Uint8Array | null = null;

  /** True when the next byte may complete a character. */
  get open(): boolean {
    return this.#pending !== null;
  }

  push(bytes: Uint8Array): string {
    if (bytes.length === 0) return '';
    const pending = this.#pending;
    let all = bytes;
    if (pending) {
      all = new Uint8Array(pending.length + bytes.length);
      all.set(pending, 0);
      all.set(bytes, pending.length);
    }
    const tail = unfinishedBytes(all);
    this.#pending = tail === 0 ? null : all.slice(all.length - tail);
    return decoder.decode(tail === 0 ? all : all.subarray(0, all.length - tail));
  }

  /** The bytes have ended: an unfinished character becomes U+FFFD. */
  end(): string {
    const pending = this.#pending;
    this.#pending = null;
    return pending ? decoder.decode(pending) : '';
  }
}
