// What of a tool's output the model gets: text in valid UTF-8, without what could steer a terminal, hide or reverse text, and with
// the first and last halves of what is too long. It stays data: the gateway tokenises it with control tokens off.
import { headBytes, tailBytes } from '#kit/text-cut.ts';
import type { CapturedOutput } from './tool.ts';

/** CSI, OSC and the other string sequences up to their end, and two-character escapes (ECMA-48). None scans past an ESC: linear time. */
const ESCAPE_SEQUENCES = new RegExp(
  [
    '\\u001b\\[[0-?]*[ -/]*[@-~]',
    '\\u001b[\\]PX^_][^\\u0007\\u001b\\u009c]{0,4096}(?:\\u0007|\\u001b\\\\|\\u009c)',
    '\\u001b[ -/]*[0-~]',
  ].join('|'),
  'g',
);

/**
 * What no text needs and what hides text from a person: C0 but tab and newline, DEL and C1; marks and overrides of direction;
 * zero-width and invisible operators (not the joiners, which scripts and emoji need); interlinear marks; tag characters and the
 * variation selectors beside them, by which whole sentences can be smuggled; noncharacters.
 */
const HIDDEN =
  /(?![\t\n])\p{Cc}|[\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ufffe\uffff\u{e0000}-\u{e0fff}]/gu;

/** Without escape sequences, control, direction, tag and other invisible characters; line ends are \n. Applied twice it is as once. */
export function stripText(text: string): string {
  return text.toWellFormed().replace(ESCAPE_SEQUENCES, '').replace(/\r\n?/g, '\n').replace(HIDDEN, '');
}

const marker = (leftOut: number): string => `\n[... ${leftOut} bytes left out ...]\n`;

/** First and last halves of a text that has more than `maxBytes` of UTF-8, with the number of bytes between; maxBytes >= 64. */
export function cutMiddle(text: string, maxBytes: number): { text: string; cut: boolean } {
  const bytes = Buffer.from(text.toWellFormed(), 'utf8');
  if (bytes.length <= maxBytes) return { text: text.toWellFormed(), cut: false };
  const half = Math.max(0, Math.floor((maxBytes - marker(bytes.length).length) / 2));
  const [head, tail] = [headBytes(bytes, half), tailBytes(bytes, half)];
  const leftOut = bytes.length - head.length - tail.length;
  return { text: `${head.toString('utf8')}${marker(leftOut)}${tail.toString('utf8')}`, cut: true };
}

/** What goes to the model: stripped, then cut to `maxBytes`. */
export function forModel(content: string, maxBytes: number): { text: string; cut: boolean } {
  return cutMiddle(stripText(content), maxBytes);
}

const PIECES_MAX = 64;

/** The first and the last `half` bytes of a stream of any length. */
class Ends {
  readonly #half: number;
  #head: Buffer[] = [];
  #headBytes = 0;
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #bytes = 0;

  constructor(half: number) {
    this.#half = half;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(bytes: Buffer): void {
    this.#bytes += bytes.length;
    const room = this.#half - this.#headBytes;
    if (room > 0) {
      this.#head.push(bytes.subarray(0, room));
      this.#headBytes += Math.min(room, bytes.length);
      if (this.#head.length >= PIECES_MAX) this.#head = [Buffer.concat(this.#head)];
    }
    if (bytes.length <= room) return;
    const rest = bytes.subarray(Math.max(0, room));
    this.#tail.push(rest.length > this.#half ? rest.subarray(rest.length - this.#half) : rest);
    this.#tailBytes += this.#tail.at(-1)!.length;
    while (this.#tail.length > 1 && this.#tailBytes - this.#tail[0]!.length >= this.#half) {
      this.#tailBytes -= this.#tail.shift()!.length;
    }
    if (this.#tail.length >= PIECES_MAX) this.#tail = [Buffer.concat(this.#tail)]; // a byte at a time costs a hundred each
  }

  /** As text of at most about `max` bytes. */
  text(max: number): { text: string; cut: boolean } {
    const [head, tail] = [Buffer.concat(this.#head), Buffer.concat(this.#tail)];
    const whole = this.#bytes === head.length + tail.length;
    if (whole && this.#bytes <= max) return { text: decode(Buffer.concat([head, tail])), cut: false };
    const half = Math.floor(max / 2);
    const [first, last] = [headBytes(head, half), tailBytes(whole ? Buffer.concat([head, tail]) : tail, half)];
    const leftOut = this.#bytes - first.length - last.length;
    return { text: `${decode(first)}${marker(leftOut)}${decode(last)}`, cut: true };
  }
}

/** Bytes that are no UTF-8 become U+FFFD. */
function decode(bytes: Buffer): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}

/** Keeps of stdout and stderr what the model may get, whatever their length: at most `maxBytes` of each. */
export class OutputCapture {
  readonly #max: number;
  readonly #stdout: Ends;
  readonly #stderr: Ends;

  constructor(maxBytes: number) {
    this.#max = maxBytes;
    const half = Math.ceil(maxBytes / 2);
    this.#stdout = new Ends(half);
    this.#stderr = new Ends(half);
  }

  /** Keeps of `data` what it needs: nobody writes to it again. */
  add(stream: 'stdout' | 'stderr', data: Buffer): void {
    (stream === 'stdout' ? this.#stdout : this.#stderr).add(data);
  }

  get stdoutBytes(): number {
    return this.#stdout.bytes;
  }

  get stderrBytes(): number {
    return this.#stderr.bytes;
  }

  /** Both together have about maxBytes: each at least half of it, and what the other leaves. */
  captured(): CapturedOutput {
    const half = Math.floor(this.#max / 2);
    const forStderr = Math.max(half, this.#max - this.#stdout.bytes);
    const forStdout = Math.max(half, this.#max - this.#stderr.bytes);
    const [stdout, stderr] = [this.#stdout.text(forStdout), this.#stderr.text(forStderr)];
    return { stdout: stdout.text, stderr: stderr.text, cut: stdout.cut || stderr.cut };
  }
}
