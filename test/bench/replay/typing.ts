// How somebody types: which key comes next for a text that they have in mind, and how long it takes. Bursts within words, pauses
// between words and lines, slips that are noticed and taken back, the editor's indentation, brackets and quotes that close themselves.
import { type Random, seeded } from './random.ts';

export type Key =
  /** Puts `text` at the cursor; `behind` of it comes to stand behind the cursor (a bracket that closed itself). */
  | { kind: 'insert'; text: string; behind: number; waitMs: number; advance: number }
  /** Takes `count` characters before the cursor. */
  | { kind: 'backspace'; count: number; waitMs: number }
  /** Over the closing bracket that stands there already. */
  | { kind: 'overtype'; waitMs: number };

export type TypingState = {
  /** What is typed in the end. */
  target: string;
  /** How much of it is there. */
  at: number;
  /** Of the target: closing brackets that stand behind the cursor already, the nearest first. */
  closers: number[];
  /** Wrong characters before the cursor. */
  slip: number;
  /** Slips that were made, by their place: each once. */
  slipped: Set<number>;
  /** Too much indentation by the editor, or (below 0) too little. */
  indentOff: number;
};

export const startTyping = (target: string): TypingState => ({
  ...{ target, at: 0, closers: [], slip: 0, slipped: new Set<number>(), indentOff: 0 },
});

const PAIRS: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}', '"': '"', "'": "'", '`': '`' };
const SLIP_SHARE = 0.025;
const NEIGHBOURS = 'qwertyuiopasdfghjklzxcvbnm';

const indentOf = (line: string): string => /^[ \t]*/.exec(line)?.[0] ?? '';

/** Offset of what closes the bracket or quote at the state's place, in its line and within the pairs around it; null: nothing. */
function closerOf({ target, at, closers }: TypingState): number | null {
  const open = target[at] ?? '';
  const close = PAIRS[open];
  if (close === undefined || (open === close && /\w/.test(target[at - 1] ?? ''))) return null;
  let depth = 0;
  const end = closers[0] ?? target.length;
  for (let i = at + 1; i < end && target[i] !== '\n'; i++) {
    if (target[i] === close && depth === 0) return i;
    if (target[i] === open) depth++;
    else if (target[i] === close) depth--;
  }
  return null;
}

/** What an editor puts at the beginning of a new line. */
function guessIndent(currentLine: string): string {
  const unit = currentLine.startsWith('\t') ? '\t' : '  ';
  const opens = /[{([:]\s*$/.test(currentLine);
  return indentOf(currentLine) + (opens ? unit + (unit === '  ' && /:\s*$/.test(currentLine) ? '  ' : '') : '');
}

/** Milliseconds before the key that makes the target's character `at`, by what is before it. */
function waitFor(target: string, at: number, paceMs: number, random: Random): number {
  const before = target[at - 1] ?? '\n';
  const here = target[at] ?? '';
  if (here === '\n') return random.lognormal(paceMs * 1.8, 0.5);
  if (before === '\n') return random.next() < 0.3 ? random.lognormal(1_100, 0.5) : random.lognormal(paceMs * 2.5, 0.5);
  if (/\w/.test(here) && !/\w/.test(before)) {
    return random.next() < 0.12 ? random.lognormal(650, 0.4) : random.lognormal(paceMs * 1.45, 0.45);
  }
  if (!/\w/.test(here) && here !== ' ') return random.lognormal(paceMs * 1.35, 0.4);
  return random.lognormal(paceMs, 0.33);
}

/** The next key; null: all is typed. `currentLine`: the cursor's line up to the cursor. */
export function nextKey(state: TypingState, currentLine: string, paceMs: number, seed: string): Key | null {
  const { target, at } = state;
  if (state.slip > 0) {
    const random = seeded(seed, at, 'back');
    return { kind: 'backspace', count: 1, waitMs: random.lognormal(paceMs * 2.2, 0.3) };
  }
  const random = seeded(seed, at);
  if (state.indentOff > 0)
    return { kind: 'backspace', count: state.indentOff, waitMs: random.lognormal(paceMs * 1.5, 0.3) };
  if (state.indentOff < 0) {
    const text = target.slice(at, at - state.indentOff);
    return { kind: 'insert', text, behind: 0, advance: text.length, waitMs: random.lognormal(paceMs * 1.5, 0.3) };
  }
  const here = target[at];
  if (here === undefined) return null;
  const waitMs = waitFor(target, at, paceMs, random);
  if (state.closers[0] === at) return { kind: 'overtype', waitMs };
  if (here === '\n') return newLine(state, currentLine, waitMs);
  if (/[a-z]/.test(here) && !state.slipped.has(at) && random.next() < SLIP_SHARE) {
    return { kind: 'insert', text: random.pick([...NEIGHBOURS]), behind: 0, advance: 0, waitMs };
  }
  const closer = closerOf(state);
  const pair = closer === null ? '' : target[closer]!;
  return { kind: 'insert', text: here + pair, behind: pair.length, advance: 1, waitMs };
}

/** The line end and the indentation that the editor thinks fit. */
function newLine({ target, at }: TypingState, currentLine: string, waitMs: number): Key {
  const wanted = indentOf(target.slice(at + 1).split('\n', 1)[0] ?? '');
  const isBlank = /^[ \t]*(\n|$)/.test(target.slice(at + 1));
  const guess = isBlank ? wanted : guessIndent(currentLine);
  return { kind: 'insert', text: `\n${guess}`, behind: 0, advance: 1 + commonLength(guess, wanted), waitMs };
}

/** How far two texts agree. */
export function commonLength(a: string, b: string): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return at;
}

/** What the state is after `key`. */
export function typed(state: TypingState, key: Key): void {
  const { target, at } = state;
  if (key.kind === 'overtype') {
    state.closers.shift();
    state.at++;
  } else if (key.kind === 'backspace') {
    if (state.slip > 0) state.slip--;
    else state.indentOff = 0;
  } else if (key.advance === 0) {
    state.slip = 1;
    state.slipped.add(at);
  } else if (key.text.startsWith('\n')) {
    const wanted = indentOf(target.slice(at + 1).split('\n', 1)[0] ?? '').length;
    const agreed = key.advance - 1;
    const excess = key.text.length - 1 - agreed;
    state.indentOff = excess > 0 ? excess : agreed - wanted;
    state.at += key.advance;
  } else {
    if (key.behind > 0) state.closers.unshift(closerOf(state)!);
    state.indentOff = 0;
    state.at += key.advance;
  }
}
