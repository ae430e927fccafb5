// Somebody at a keyboard: types into one document and asks at every key, as editors do, cancelling what was asked before.
import type { Answer } from '../../../../../clients/lsp/core/completer.ts';
import type { Bench } from './scripted-mesh.ts';

export type Asking = { answer: Promise<Answer>; got: Answer | null; version: number; cancel: () => void };

export class Typist {
  readonly uri = 'file:///project/a.py';
  readonly askings: Asking[] = [];
  offset: number;
  version = 1;
  readonly #bench: Bench;

  constructor(bench: Bench, text: string, offset = text.length, languageId = 'python') {
    this.#bench = bench;
    this.offset = offset;
    bench.documents.open(this.uri, languageId, 1, text);
  }

  get text(): string {
    return this.#bench.documents.get(this.uri)?.text ?? '';
  }

  /** Replaces `removed` units behind the cursor with `text` and puts the cursor behind it. */
  edit(text: string, removed = 0): void {
    const document = this.#bench.documents.get(this.uri);
    if (!document) throw new Error('the document is not open');
    const start = document.positionAt(this.offset);
    const end = document.positionAt(this.offset + removed);
    this.version++;
    this.#bench.documents.change(this.uri, this.version, [{ range: { start, end }, text }]);
    this.offset = Math.min(this.offset + text.length, this.text.length);
  }

  /** Asks at the cursor; the request before it is cancelled first when it is open, unless the editor does not do that. */
  ask(invoked = false, cancels = true): Asking {
    const previous = this.askings.at(-1);
    if (cancels && previous?.got === null) previous.cancel();
    const document = this.#bench.documents.get(this.uri);
    if (!document) throw new Error('the document is not open');
    const abort = new AbortController();
    const position = document.positionAt(this.offset);
    const answer = this.#bench.completer.complete({ uri: this.uri, position, invoked }, { signal: abort.signal });
    const asking: Asking = { answer, got: null, version: this.version, cancel: () => abort.abort() };
    answer.then((got) => {
      asking.got = got;
    });
    this.askings.push(asking);
    return asking;
  }

  /** Types one key and asks. */
  key(char: string): Asking {
    this.edit(char);
    return this.ask();
  }
}
