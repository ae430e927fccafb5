// A regular expression that is matched in time linear in the text (Thompson's construction, simulated as in Pike's VM): no text
// makes it slow. It takes the part of ECMAScript's syntax (flag u) that regular languages have: characters, classes, groups,
// alternatives, repetition, ^ $ \b \B. Lookaround and back references are refused. Single characters are tested by the
// engine's own RegExp, so that classes mean what they mean there.
import { QuernError } from '#kit/errors.ts';
import {
  PATTERN_CHARACTER_WORK,
  PATTERN_CHARS_MAX,
  PATTERN_DEPTH_MAX,
  PATTERN_INSTRUCTIONS_MAX,
  PATTERN_WORK_MAX,
} from './tool-limits.ts';

/** `next` and `other` are indices of instructions; a set consumes one character, the rest none. */
type Instruction =
  | { op: 'set'; matches: (codePoint: number) => boolean; next: number }
  | { op: 'split'; next: number; other: number }
  | { op: 'start' | 'end' | 'boundary' | 'inside'; next: number }
  | { op: 'match' };

type Node =
  | { kind: 'set'; source: string }
  | { kind: 'assert'; op: 'start' | 'end' | 'boundary' | 'inside' }
  | { kind: 'sequence'; parts: Node[] }
  | { kind: 'choice'; branches: Node[] }
  | { kind: 'repeat'; body: Node; min: number; max: number };

export type LinearPattern = {
  readonly source: string;
  /** Whether it occurs in the text. Throws INVALID_ARGUMENT when the text is too long for the pattern's size. */
  test(text: string): boolean;
  toString(): string;
};

function refuse(source: string, problem: string): QuernError {
  const shown = source.length > 80 ? `${source.slice(0, 80)}...` : source;
  const message = `pattern ${JSON.stringify(shown)}: ${problem}; use characters, classes, groups, |, * + ? {n,m}, ^ $ \\b`;
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'PATTERN_NOT_LINEAR' });
}

/** A class, the escapes of flag u, anything else as it is. */
const CHARACTER_FORMS = [
  String.raw`\[(?:[^\]\\]|\\[\s\S])*\]`,
  String.raw`\\[pP]\{[^}]*\}`,
  String.raw`\\u\{[0-9a-fA-F]+\}`,
  String.raw`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`,
  String.raw`\\u[0-9a-fA-F]{4}`,
  String.raw`\\x[0-9a-fA-F]{2}`,
  String.raw`\\c[A-Za-z]`,
  String.raw`\\[\s\S]`,
  String.raw`[\s\S]`,
];

/** Reads a pattern that `new RegExp(source, 'u')` accepts, so that only what is outside the subset needs to be found here. */
class PatternReader {
  readonly source: string;
  at = 0;

  constructor(source: string) {
    this.source = source;
  }

  choice(depth: number): Node {
    if (depth > PATTERN_DEPTH_MAX) throw refuse(this.source, `groups deeper than ${PATTERN_DEPTH_MAX}`);
    const branches: Node[] = [this.sequence(depth)];
    while (this.source[this.at] === '|') {
      this.at++;
      branches.push(this.sequence(depth));
    }
    return branches.length === 1 ? branches[0]! : { kind: 'choice', branches };
  }

  sequence(depth: number): Node {
    const parts: Node[] = [];
    while (this.at < this.source.length && this.source[this.at] !== '|' && this.source[this.at] !== ')') {
      parts.push(this.repeated(this.atom(depth)));
    }
    return { kind: 'sequence', parts };
  }

  repeated(body: Node): Node {
    const match = /^(?:([*+?])|\{(\d+)(,?)(\d*)\})\??/.exec(this.source.slice(this.at, this.at + 32));
    if (!match) return body;
    this.at += match[0].length;
    const [, sign, low, comma, high] = match;
    if (sign !== undefined) {
      return { kind: 'repeat', body, min: sign === '+' ? 1 : 0, max: sign === '?' ? 1 : Number.POSITIVE_INFINITY };
    }
    const min = Number(low);
    const max = comma === '' ? min : high === '' ? Number.POSITIVE_INFINITY : Number(high);
    return { kind: 'repeat', body, min, max };
  }

  atom(depth: number): Node {
    const char = this.source[this.at]!;
    if (char === '^' || char === '$') {
      this.at++;
      return { kind: 'assert', op: char === '^' ? 'start' : 'end' };
    }
    if (char === '(') return this.group(depth);
    const boundary = this.source.slice(this.at, this.at + 2);
    if (boundary === '\\b' || boundary === '\\B') {
      this.at += 2;
      return { kind: 'assert', op: boundary === '\\b' ? 'boundary' : 'inside' };
    }
    return { kind: 'set', source: this.character(char) };
  }

  group(depth: number): Node {
    const head = /^\((?:\?(?::|<[A-Za-z_$][\w$]*>))?(?!\?)/.exec(this.source.slice(this.at, this.at + 64));
    if (!head) throw refuse(this.source, `lookaround and flags in a group (at ${this.at}) are not linear`);
    this.at += head[0].length;
    const body = this.choice(depth + 1);
    if (this.source[this.at] !== ')') throw refuse(this.source, `expected ")" at ${this.at}`);
    this.at++;
    return body;
  }

  /** The text of one class, escape or character. */
  character(char: string): string {
    const rest = this.source.slice(this.at);
    if (char === '\\' && /^\\(?:[1-9]|k)/.test(rest)) throw refuse(this.source, 'back references are not linear');
    const forms = new RegExp(`^(?:${CHARACTER_FORMS.join('|')})`, 'u');
    const [text] = forms.exec(rest)!;
    this.at += text.length;
    return text;
  }
}

const ASCII = 128;

/** Membership of a class, one look-up for ASCII. */
function setOf(source: string): (codePoint: number) => boolean {
  const pattern = new RegExp(`^(?:${source})$`, 'u');
  const ascii = Uint8Array.from({ length: ASCII }, (_, code) => Number(pattern.test(String.fromCharCode(code))));
  const others = new Map<number, boolean>();
  return (codePoint) => {
    if (codePoint < ASCII) return ascii[codePoint] === 1;
    const known = others.get(codePoint);
    if (known !== undefined) return known;
    const matches = pattern.test(String.fromCodePoint(codePoint));
    if (others.size < 4096) others.set(codePoint, matches);
    return matches;
  };
}

class Program {
  readonly source: string;
  readonly code: Instruction[] = [{ op: 'match' }];
  readonly sets = new Map<string, (codePoint: number) => boolean>();

  constructor(source: string) {
    this.source = source;
  }

  add(instruction: Instruction): number {
    if (this.code.length >= PATTERN_INSTRUCTIONS_MAX) {
      throw refuse(this.source, `larger than ${PATTERN_INSTRUCTIONS_MAX} steps with its repetitions written out`);
    }
    return this.code.push(instruction) - 1;
  }

  /** Compiles `node` so that it goes on at `next`; answers where it begins. */
  compile(node: Node, next: number): number {
    switch (node.kind) {
      case 'set': {
        const matches = this.sets.get(node.source) ?? setOf(node.source);
        this.sets.set(node.source, matches);
        return this.add({ op: 'set', matches, next });
      }
      case 'assert':
        return this.add({ op: node.op, next });
      case 'sequence':
        return node.parts.reduceRight((after, part) => this.compile(part, after), next);
      case 'choice':
        return node.branches
          .map((branch) => this.compile(branch, next))
          .reduceRight((other, begin) => this.add({ op: 'split', next: begin, other }));
      case 'repeat':
        return this.repeat(node.body, node.min, node.max, next);
    }
  }

  repeat(body: Node, min: number, max: number, next: number): number {
    let after = next;
    if (max === Number.POSITIVE_INFINITY) {
      const loop = this.add({ op: 'split', next, other: next });
      this.code[loop] = { op: 'split', next: this.compile(body, loop), other: next };
      after = loop;
    } else {
      for (let i = min; i < max; i++) {
        const before = after;
        after = this.add({ op: 'split', next: this.compile(body, before), other: next });
        if (this.code.length === 1) break;
      }
    }
    for (let i = 0; i < min; i++) {
      const size = this.code.length;
      after = this.compile(body, after);
      if (this.code.length === size) break; // an empty body: once is as often
    }
    return after;
  }
}

/** \w: of flag u without flag i, ASCII only. */
const isWord = (code: number | undefined): boolean =>
  code !== undefined &&
  ((code >= 97 && code <= 122) || (code >= 65 && code <= 90) || (code >= 48 && code <= 57) || code === 95);

function holds(op: 'start' | 'end' | 'boundary' | 'inside', text: readonly number[], at: number): boolean {
  if (op === 'start') return at === 0;
  if (op === 'end') return at === text.length;
  return (isWord(text[at - 1]) !== isWord(text[at])) === (op === 'boundary');
}

/** The set of threads at one place; each instruction is in it once. */
class Threads {
  readonly list: number[] = [];
  readonly pending: number[] = [];
  readonly marks: Uint32Array;
  generation = 0;

  constructor(size: number) {
    this.marks = new Uint32Array(size);
  }

  clear(): void {
    this.list.length = 0;
    this.generation++;
  }
}

/** Adds `start` and what it reaches without a character. True: a match ends here. */
function follow(
  code: readonly Instruction[],
  threads: Threads,
  start: number,
  text: readonly number[],
  at: number,
): boolean {
  const { pending } = threads;
  pending.length = 0;
  pending.push(start);
  while (pending.length > 0) {
    const index = pending.pop()!;
    if (threads.marks[index] === threads.generation) continue;
    threads.marks[index] = threads.generation;
    const step = code[index]!;
    if (step.op === 'match') return true;
    if (step.op === 'set') threads.list.push(index);
    else if (step.op === 'split') pending.push(step.other, step.next);
    else if (holds(step.op, text, at)) pending.push(step.next);
  }
  return false;
}

function codePointsOf(text: string): number[] {
  const codePoints: number[] = [];
  for (let at = 0; at < text.length; at++) {
    const codePoint = text.codePointAt(at)!;
    if (codePoint > 0xffff) at++;
    codePoints.push(codePoint);
  }
  return codePoints;
}

function occurs(code: readonly Instruction[], begin: number, text: readonly number[]): boolean {
  let now = new Threads(code.length);
  let then = new Threads(code.length);
  now.clear();
  for (let at = 0; ; at++) {
    if (follow(code, now, begin, text, at)) return true; // an occurrence may begin anywhere
    if (at === text.length) return false;
    then.clear();
    const codePoint = text[at]!;
    for (const index of now.list) {
      const step = code[index]!;
      if (step.op === 'set' && step.matches(codePoint) && follow(code, then, step.next, text, at + 1)) return true;
    }
    [now, then] = [then, now];
  }
}

/** Throws INVALID_ARGUMENT, reason PATTERN_NOT_LINEAR, for a pattern outside the subset or too large. */
export function linearPattern(source: string): LinearPattern {
  if (source.length > PATTERN_CHARS_MAX) throw refuse(source, `longer than ${PATTERN_CHARS_MAX} characters`);
  try {
    new RegExp(source, 'u');
  } catch (error) {
    throw refuse(source, (error as Error).message.replace(/^.*: /s, ''));
  }
  const reader = new PatternReader(source);
  const tree = reader.choice(0);
  if (reader.at < source.length)
    throw refuse(source, `unexpected ${JSON.stringify(source[reader.at])} at ${reader.at}`);
  const program = new Program(source);
  const begin = program.compile(tree, 0);
  const { code } = program;
  return {
    source,
    test(text) {
      const longest = Math.floor(PATTERN_WORK_MAX / (code.length + PATTERN_CHARACTER_WORK));
      if (text.length > longest) {
        const message = `expected at most ${longest} characters where a pattern of this size is checked, got ${text.length}`;
        throw new QuernError('INVALID_ARGUMENT', message, { reason: 'PATTERN_TEXT_TOO_LONG' });
      }
      return occurs(code, begin, codePointsOf(text));
    },
    toString: () => `/${source}/u`,
  };
}
