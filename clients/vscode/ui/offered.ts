/**
 * What became of the suggestion that is shown, told to the server. VS Code runs an item's command when all of it is taken, but
 * has no event for a part of it (microsoft/vscode#172384): that is read from the edit that it makes.
 */
import type { Position, TextDocumentChangeEvent } from 'vscode';

export type Note = {
  kind: 'shown' | 'accepted' | 'partially_accepted' | 'dismissed';
  id: string;
  index: number;
  chars?: number;
};

/** One suggestion at the cursor: `rest` is what of its text does not stand there yet. */
export type Offer = { uri: string; id: string; index: number; at: Position; rest: string };

/** Typing inserts one character at a time, and a bracket that closes itself two; a part that is taken is a word or a line. */
const PART_CHARS_MIN = 2;
const AUTO_CLOSED = /^[([{"'`][)\]}"'`]$/;

export class Offered {
  readonly #tell: (note: Note) => void;
  #offer: Offer | null = null;

  constructor(tell: (note: Note) => void) {
    this.#tell = tell;
  }

  get current(): Offer | null {
    return this.#offer;
  }

  /** A suggestion goes to the editor. The same one at a later place is not a new one. */
  show(offer: Offer): void {
    if (this.#offer?.id !== offer.id) this.#end();
    const isNew = this.#offer === null;
    this.#offer = offer;
    if (isNew) this.#tell({ kind: 'shown', id: offer.id, index: offer.index });
  }

  /** All of it was taken: the command has told the server. */
  accepted(id: string): void {
    if (this.#offer?.id === id) this.#offer = null;
  }

  changed({ document, contentChanges, reason }: TextDocumentChangeEvent): void {
    const offer = this.#offer;
    if (offer === null || offer.uri !== document.uri.toString() || contentChanges.length === 0) return;
    const [change] = contentChanges;
    // Enough to compare with, however much was pasted.
    const charsMax = 2 * offer.rest.length + 2;
    const text = (change?.text ?? '').slice(0, charsMax).replaceAll('\r\n', '\n');
    const follows =
      contentChanges.length === 1 &&
      change?.range.isEmpty === true &&
      change.range.start.isEqual(offer.at) &&
      reason === undefined;
    if (!follows || text === '' || !offer.rest.startsWith(text)) {
      // Taking all of it replaces its range in one edit, and its command tells.
      const takesAll = (one: string): boolean => one.slice(-charsMax).replaceAll('\r\n', '\n').endsWith(offer.rest);
      if (!contentChanges.some((one) => takesAll(one.text))) this.#end();
      return;
    }
    if (text.length === offer.rest.length) return;
    const isPart = text.length >= PART_CHARS_MIN && !AUTO_CLOSED.test(text);
    if (isPart) this.#tell({ kind: 'partially_accepted', id: offer.id, index: offer.index, chars: text.length });
    this.#offer = { ...offer, at: behind(offer.at, text), rest: offer.rest.slice(text.length) };
  }

  /** The cursor went elsewhere, or another document came to the front. */
  left(uri: string | null, at: Position | null): void {
    const offer = this.#offer;
    if (offer !== null && (uri !== offer.uri || at === null || !at.isEqual(offer.at))) this.#end();
  }

  #end(): void {
    if (this.#offer !== null) this.#tell({ kind: 'dismissed', id: this.#offer.id, index: this.#offer.index });
    this.#offer = null;
  }
}

function behind(at: Position, text: string): Position {
  const lines = text.split('\n');
  const last = lines.at(-1) ?? '';
  return lines.length === 1 ? at.translate(0, text.length) : at.with(at.line + lines.length - 1, last.length);
}
