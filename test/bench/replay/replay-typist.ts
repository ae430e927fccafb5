// Plays one trace in an editor: types, looks at what is suggested, takes what is right, and writes down what it saw.
import type { Clock } from '../../../clients/lsp/core/clock.ts';
import type { Answer } from '../../../clients/lsp/core/completer.ts';
import { seeded } from './random.ts';
import type { ReplayEditor } from './replay-editor.ts';
import type { Passage, Trace } from './trace.ts';
import { commonLength, nextKey, startTyping, type TypingState, typed } from './typing.ts';

/** A suggestion that came to be seen, or that went on being seen while it was typed. */
export type Shown = {
  /** Of the request that it came from. */
  id: string;
  /** continued: the key was the next letter of what was seen already. */
  from: 'mesh' | 'cache' | 'continued';
  keyAt: number;
  shownAt: number;
  chars: number;
};

export type Played = {
  keys: number;
  milliseconds: number;
  shown: Shown[];
  /** Reason -> answers without a suggestion. */
  reasons: Record<string, number>;
  answers: number;
  acceptances: number;
  acceptedChars: number;
  keptChars: number;
  typedChars: number;
};

/** How time passes between two keys. */
export type Pace = { clock: Clock; wait(ms: number): Promise<void> };

/** A suggestion must have been there for so long to be taken. */
const SEEN_MS = 250;
/** Characters that are not blank, of a suggestion that is right to its end. */
const ACCEPT_CHARS_MIN = 4;
/** A suggestion that goes wrong is taken too when so much of it is right; the rest is deleted again. */
const ACCEPT_RIGHT_CHARS_MIN = 12;
const ACCEPT_RIGHT_SHARE = 0.6;

type Visible = { answer: Answer; version: number; since: number };

export class ReplayTypist {
  readonly played: Played = {
    ...{ keys: 0, milliseconds: 0, shown: [], reasons: {}, answers: 0 },
    ...{ acceptances: 0, acceptedChars: 0, keptChars: 0, typedChars: 0 },
  };
  readonly #trace: Trace;
  readonly #editor: ReplayEditor;
  readonly #pace: Pace;
  #visible: Visible | null = null;
  #dueAt = 0;
  readonly #asked = new Set<Promise<void>>();

  constructor(trace: Trace, editor: ReplayEditor, pace: Pace) {
    this.#trace = trace;
    this.#editor = editor;
    this.#pace = pace;
  }

  /** `until`: milliseconds of the clock from which on no further key is pressed. True: everything was typed. */
  async play(until = Number.POSITIVE_INFINITY): Promise<boolean> {
    const { clock } = this.#pace;
    const startedAt = clock.now();
    this.#dueAt = startedAt;
    const written = new Set<Passage>();
    let isWhole = true;
    for (const [index, passage] of this.#trace.passages.entries()) {
      this.#editor.cursor = offsetIn(this.#trace, passage, written);
      this.#visible = null;
      const random = seeded(this.#trace.seed, 'passage', index);
      await this.#pause(random.lognormal(1_600, 0.5));
      isWhole = passage.how === 'pasted' ? this.#paste(passage) : await this.#type(passage, index, until);
      if (!isWhole) break;
      written.add(passage);
    }
    await this.#pause(1_000);
    this.played.milliseconds = clock.now() - startedAt;
    this.#editor.close();
    await Promise.all(this.#asked);
    if (isWhole && this.#editor.text !== this.#trace.text)
      throw new Error(`${this.#trace.name}: another text was typed`);
    return isWhole;
  }

  #paste(passage: Passage): true {
    const { cursor } = this.#editor;
    this.#editor.edit(cursor, cursor, passage.text);
    this.#ask();
    return true;
  }

  async #type(passage: Passage, index: number, until: number): Promise<boolean> {
    const state = startTyping(passage.text);
    const seed = `${this.#trace.seed}:${index}`;
    while (true) {
      const key = nextKey(state, this.#editor.currentLine, this.#trace.paceMs, seed);
      if (!key) return true;
      await this.#pause(key.waitMs);
      if (this.#pace.clock.now() >= until) return false;
      if (this.#accept(state)) continue;
      const { cursor } = this.#editor;
      if (key.kind === 'backspace') this.#editor.edit(cursor - key.count, cursor, '');
      else if (key.kind === 'overtype') this.#editor.edit(cursor, cursor + 1, state.target[state.at] ?? '');
      else this.#editor.edit(cursor, cursor, key.text, key.behind);
      if (key.kind === 'insert') this.played.typedChars += key.advance;
      typed(state, key);
      this.#ask();
    }
  }

  /** Key by key at the times that the trace says, also when the machine was late with one. */
  async #pause(ms: number): Promise<void> {
    this.#dueAt += ms;
    const left = this.#dueAt - this.#pace.clock.now();
    if (left > 0) await this.#pace.wait(left);
    else this.#dueAt -= left;
  }

  #ask(): void {
    const { clock } = this.#pace;
    const keyAt = clock.now();
    const { version } = this.#editor;
    this.played.keys++;
    const before = this.#visible;
    const answered = this.#editor.ask().then((answer) => this.#answered(answer, { keyAt, version, before }));
    this.#asked.add(answered);
    void answered.finally(() => this.#asked.delete(answered));
  }

  #answered(answer: Answer, asked: { keyAt: number; version: number; before: Visible | null }): void {
    const { played } = this;
    const { reason, rule, id, from, suggestions } = answer;
    const now = this.#pace.clock.now();
    played.answers++;
    const [first] = suggestions;
    if (!first) {
      const name = rule === null ? String(reason) : `${reason}(${rule})`;
      played.reasons[name] = (played.reasons[name] ?? 0) + 1;
    }
    if (asked.version !== this.#editor.version) {
      if (first) throw new Error(`${this.#trace.name}: a suggestion for an older text`);
      return;
    }
    if (!first) {
      this.#visible = null;
      return;
    }
    const continues = asked.before?.answer.id === id && asked.before.version === asked.version - 1;
    this.#visible = { answer, version: asked.version, since: continues ? (asked.before?.since ?? now) : now };
    const source = continues ? 'continued' : from === 'cache' ? 'cache' : 'mesh';
    played.shown.push({ id, from: source, keyAt: asked.keyAt, shownAt: now, chars: first.insertText.length });
  }

  /** Takes what is shown when it is what would be typed. */
  #accept(state: TypingState): boolean {
    const visible = this.#visible;
    const editor = this.#editor;
    const first = visible?.answer.suggestions[0];
    if (!visible || !first || visible.version !== editor.version || state.slip > 0 || state.indentOff !== 0)
      return false;
    if (this.#pace.clock.now() - visible.since < SEEN_MS) return false;
    const from = editor.offsetAt(first.range.start);
    const to = editor.offsetAt(first.range.end);
    const before = editor.text.slice(from, editor.cursor);
    if (!first.insertText.startsWith(before)) return false;
    const added = first.insertText.slice(before.length);
    const right = commonLength(added, state.target.slice(state.at));
    const closed = state.closers.filter((closer) => closer < state.at + right).length;
    if (to - editor.cursor !== closed) return false;
    const isRight = right === added.length && added.replace(/\s/g, '').length >= ACCEPT_CHARS_MIN;
    const isMostly = right >= ACCEPT_RIGHT_CHARS_MIN && right >= added.length * ACCEPT_RIGHT_SHARE;
    if (!isRight && !isMostly) return false;
    editor.edit(from, to, first.insertText);
    state.at += right;
    state.closers.splice(0, closed);
    state.indentOff = added.length - right;
    this.played.acceptances++;
    this.played.acceptedChars += added.length;
    this.played.keptChars += right;
    this.#ask();
    return true;
  }
}

/** Where a passage begins in a text in which only `written` ones are there. */
function offsetIn({ passages }: Trace, passage: Passage, written: ReadonlySet<Passage>): number {
  const missing = passages.filter((other) => other.offset < passage.offset && !written.has(other));
  return passage.offset - missing.reduce((sum, { text }) => sum + text.length, 0);
}

/** The text before anything was typed. */
export function textWithout({ text, passages }: Trace): string {
  let rest = text;
  for (const { offset, text: missing } of [...passages].sort((a, b) => b.offset - a.offset)) {
    rest = rest.slice(0, offset) + rest.slice(offset + missing.length);
  }
  return rest;
}
