// The client's core with the parts around it as the language server puts them together, for one document that somebody types in.
import { CapabilityBook } from '../../../clients/lsp/core/capabilities.ts';
import { ChunkCollector } from '../../../clients/lsp/core/chunks/chunk-collector.ts';
import type { Clock } from '../../../clients/lsp/core/clock.ts';
import { type Answer, Completer } from '../../../clients/lsp/core/completer.ts';
import { Documents } from '../../../clients/lsp/core/documents.ts';
import type { MeshSource } from '../../../clients/lsp/core/mesh-source.ts';
import { defaultSettings, type Settings } from '../../../clients/lsp/core/settings.ts';
import { Warmer } from '../../../clients/lsp/core/warmer.ts';
import type { Trace } from './trace.ts';

export type EditorParts = {
  clock: Clock;
  source: MeshSource;
  /** Begins the ids of its requests. */
  name: string;
  settings?: Partial<Settings>;
};

export class ReplayEditor {
  readonly uri: string;
  readonly #documents = new Documents();
  readonly #completer: Completer;
  readonly #collector: ChunkCollector;
  readonly #warmer: Warmer;
  #version = 1;
  #asking: AbortController | null = null;
  cursor = 0;

  constructor(trace: Trace, text: string, { clock, source, name, settings: given }: EditorParts) {
    this.uri = `file:///project/${trace.path}`;
    const settings = { ...defaultSettings, ...given };
    const documents = this.#documents;
    let count = 0;
    documents.open(`file:///project/beside/${trace.path}`, trace.languageId, 1, trace.beside);
    documents.open(this.uri, trace.languageId, 1, text);
    const pathFor = (uri: string): string => uri.slice('file:///project/'.length);
    this.#collector = new ChunkCollector({
      ...{ clock, documents, pathFor },
      onChange: () => this.#warmer.noteChange(),
    });
    this.#completer = new Completer({
      ...{ clock, documents, source, capabilities: new CapabilityBook(clock, source) },
      settings: () => settings,
      newId: () => `${name}-${count++}`,
      newTraceId: () => crypto.randomUUID().replaceAll('-', ''),
      describe: ({ uri }) => ({ path: pathFor(uri), repository: 'project' }),
      chunksFor: (place) => this.#collector.chunksFor(place),
    });
    this.#warmer = new Warmer({
      ...{ clock, source, busy: () => this.#completer.busy },
      allowed: () => settings.warm,
      query: () => this.#completer.queryAt(this.uri, this.#position),
    });
    documents.onEdit(() => this.#warmer.noteActivity());
    this.#warmer.noteChange();
  }

  get text(): string {
    return this.#documents.get(this.uri)?.text ?? '';
  }

  get version(): number {
    return this.#version;
  }

  get inFlight(): number {
    return this.#completer.inFlight;
  }

  get #position() {
    return this.#documents.get(this.uri)!.positionAt(this.cursor);
  }

  /** The cursor's line up to the cursor. */
  get currentLine(): string {
    const { text } = this;
    return text.slice(text.lastIndexOf('\n', this.cursor - 1) + 1, this.cursor);
  }

  offsetAt(position: { line: number; character: number }): number {
    return this.#documents.get(this.uri)!.offsetAt(position);
  }

  /** Replaces what lies between two offsets; the cursor comes to stand behind `text`, less `behind`. */
  edit(from: number, to: number, text: string, behind = 0): void {
    const document = this.#documents.get(this.uri)!;
    const range = { start: document.positionAt(from), end: document.positionAt(to) };
    this.#version++;
    this.#documents.change(this.uri, this.#version, [{ range, text }]);
    this.cursor = from + text.length - behind;
  }

  /** Asks at the cursor, as editors do behind every key; what was asked before is cancelled. */
  ask(): Promise<Answer> {
    this.#asking?.abort();
    this.#asking = new AbortController();
    const position = this.#position;
    void this.#collector.noteCursor(this.uri, position.line);
    this.#warmer.noteActivity();
    return this.#completer.complete({ uri: this.uri, position, invoked: false }, { signal: this.#asking.signal });
  }

  close(): void {
    this.#asking?.abort();
    this.#completer.close();
    this.#warmer.reset();
  }
}
