/** The open documents as the editor last told them. Positions are UTF-16 units, as the protocol counts by default. */
import { type Position, type Range, TextDocument } from 'vscode-languageserver-textdocument';
import { DOCUMENTS_MAX } from './limits.ts';

export type { Position, Range } from 'vscode-languageserver-textdocument';
export type Change = { range: Range; text: string } | { text: string };

/** What changed in a document: `removed` units at `offset` became `inserted`. */
export type Edit = { uri: string; offset: number; removed: number; inserted: string };

export type Document = {
  readonly uri: string;
  readonly languageId: string;
  readonly version: number;
  readonly text: string;
  readonly lineCount: number;
  offsetAt(position: Position): number;
  positionAt(offset: number): Position;
};

export class Documents {
  readonly #open = new Map<string, TextDocument>();
  readonly #onEdit = new Set<(edit: Edit) => void>();

  open(uri: string, languageId: string, version: number, text: string): void {
    this.#open.delete(uri); // opened last, listed last
    this.#open.set(uri, TextDocument.create(uri, languageId, version, text));
    const oldest = this.#open.keys().next().value;
    if (this.#open.size > DOCUMENTS_MAX && oldest !== undefined) this.#open.delete(oldest);
  }

  /** Applies changes in order. False: the document is not open, and nothing was done. */
  change(uri: string, version: number, changes: readonly Change[]): boolean {
    const document = this.#open.get(uri);
    if (!document) return false;
    for (const change of changes) {
      const edit = editOf(document, change);
      // One at a time: the offsets of the next are in the text that this one leaves.
      TextDocument.update(document, [change], version);
      for (const hear of this.#onEdit) hear(edit);
    }
    if (changes.length === 0) TextDocument.update(document, [], version);
    return true;
  }

  close(uri: string): void {
    this.#open.delete(uri);
  }

  get(uri: string): Document | null {
    const document = this.#open.get(uri);
    return document ? viewOf(document) : null;
  }

  /** Open documents, longest open first. */
  all(): Document[] {
    return [...this.#open.values()].map(viewOf);
  }

  /** Calls `hear` after every edit; the answer stops that. */
  onEdit(hear: (edit: Edit) => void): () => void {
    this.#onEdit.add(hear);
    return () => this.#onEdit.delete(hear);
  }
}

function editOf(document: TextDocument, change: Change): Edit {
  const { uri } = document;
  if (!('range' in change)) return { uri, offset: 0, removed: document.getText().length, inserted: change.text };
  const a = document.offsetAt(change.range.start);
  const b = document.offsetAt(change.range.end);
  return { uri, offset: Math.min(a, b), removed: Math.abs(b - a), inserted: change.text };
}

function viewOf(document: TextDocument): Document {
  const { uri, languageId, version, lineCount } = document;
  return {
    uri,
    languageId,
    version,
    lineCount,
    get text() {
      return document.getText();
    },
    offsetAt: (position) => document.offsetAt(position),
    positionAt: (offset) => document.positionAt(offset),
  };
}
