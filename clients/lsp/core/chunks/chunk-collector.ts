/** What of other files goes beside a prompt: what it imports, the heads of open files, the ring of where the user was. */
import type { Clock } from '../clock.ts';
import type { Document, Documents } from '../documents.ts';
import type { ContextChunk } from '../infill-source.ts';
import { OPEN_FILE_CHARS, OPEN_FILES_MAX, RING_CHUNK_LINES, RING_JUMP_LINES } from '../limits.ts';
import type { Place } from '../place.ts';
import { ChunkRing } from './ring.ts';
import { hasSecretText } from './secrets.ts';
import { bagOf, similarity } from './similarity.ts';

export type CollectorParts = {
  clock: Clock;
  documents: Documents;
  /** Path to name a file by; null where its text may not go beside another file's (secret, ignored, elsewhere). */
  pathFor: (uri: string) => Promise<string | null> | string | null;
  /** What of the ring goes beside prompts has changed. */
  onChange?: () => void;
  /** Signatures of what a file imports, as far as they are known. */
  declarationsBeside?: (uri: string) => readonly ContextChunk[];
};

export class ChunkCollector {
  readonly #parts: CollectorParts;
  readonly #ring: ChunkRing;
  #last: { uri: string; line: number } | null = null;
  /** Latest known line of the cursor. */
  readonly #lines = new Map<string, number>();

  constructor(parts: CollectorParts) {
    this.#parts = parts;
    this.#ring = new ChunkRing(parts.clock, parts.onChange);
  }

  /** The user is at this line; a jump leaves behind a piece of where they were. */
  async noteCursor(uri: string, line: number): Promise<void> {
    const last = this.#last;
    this.#last = { uri, line };
    this.#lines.set(uri, line);
    this.#ring.noteBusy();
    if (!last || (last.uri === uri && Math.abs(last.line - line) <= RING_JUMP_LINES)) return;
    await this.takeAround(last.uri, last.line);
  }

  /** Takes the lines around the last known place of the cursor: the file was saved, or is about to be closed. */
  async takeFrom(uri: string): Promise<void> {
    await this.takeAround(uri, this.#lines.get(uri) ?? 0);
  }

  async takeAround(uri: string, line: number): Promise<void> {
    const document = this.#parts.documents.get(uri);
    if (!document) return;
    const text = linesAround(document, line);
    const path = await this.#parts.pathFor(uri);
    if (path !== null && !hasSecretText(text)) this.#ring.take(uri, { path, text });
  }

  closed(uri: string): void {
    this.#lines.delete(uri);
    if (this.#last?.uri === uri) this.#last = null;
  }

  /** Which files may be used has changed: everything is looked at anew. */
  reset(): void {
    this.#ring.forget(() => false);
  }

  async chunksFor(place: Place): Promise<ContextChunk[]> {
    const { prefix, suffix, uri } = place;
    const local = `${prefix.split('\n').slice(-RING_CHUNK_LINES).join('\n')}\n${suffix.split('\n').slice(0, 16).join('\n')}`;
    const ring = this.#ring.chunksBeside(local);
    const open = await this.#openFiles(uri);
    const known = ring.map(({ text }) => bagOf(text));
    const heads = open.filter(({ text }) => known.every((bag) => similarity(bag, bagOf(text)) <= 0.9));
    return [...(this.#parts.declarationsBeside?.(uri) ?? []), ...heads, ...ring];
  }

  /** Heads of the files opened last, in the order in which they were opened. */
  async #openFiles(except: string): Promise<ContextChunk[]> {
    const { documents, pathFor } = this.#parts;
    const found: ContextChunk[] = [];
    for (const document of documents.all().reverse()) {
      if (found.length >= OPEN_FILES_MAX) break;
      if (document.uri === except) continue;
      const path = await pathFor(document.uri);
      const text = path === null ? '' : headOf(document);
      if (path !== null && text.trim() !== '' && !hasSecretText(text)) found.push({ path, text, kind: 'open_file' });
    }
    return found.reverse();
  }
}

const toLf = (text: string): string => text.replaceAll('\r\n', '\n');

/** Whole lines from the beginning. */
function headOf(document: Document): string {
  const head = toLf(document.text.slice(0, OPEN_FILE_CHARS));
  return document.text.length <= OPEN_FILE_CHARS ? head : head.slice(0, head.lastIndexOf('\n') + 1);
}

function linesAround(document: Document, line: number): string {
  const first = Math.max(0, Math.min(line - RING_CHUNK_LINES / 2, document.lineCount - RING_CHUNK_LINES));
  const start = document.offsetAt({ line: first, character: 0 });
  const end = document.offsetAt({ line: Math.min(document.lineCount, first + RING_CHUNK_LINES), character: 0 });
  return toLf(document.text.slice(start, end)).slice(0, RING_CHUNK_LINES * 160);
}
