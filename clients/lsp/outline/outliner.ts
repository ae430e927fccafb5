/** Asks the parsing thread. Started with the first question; one that fails is not started again. */
import { Worker } from 'node:worker_threads';
import { GRAMMARS, type Outline } from './outline.ts';
import type { OutlineAnswer, OutlineQuestion } from './outline-worker.ts';

/** A longer text is not parsed: what it imports stands in its beginning. */
const TEXT_CHARS_MAX = 256 * 1024;
/** Questions that wait for the thread; further ones have no answer. */
const WAITING_MAX = 32;

export class Outliner {
  #worker: Worker | null = null;
  #broken = false;
  #nextId = 0;
  readonly #waiting = new Map<number, (outline: Outline | null) => void>();

  /** Null: a language without a grammar, or no answer. */
  outline(languageId: string, text: string): Promise<Outline | null> {
    if (this.#broken || !Object.hasOwn(GRAMMARS, languageId) || this.#waiting.size >= WAITING_MAX)
      return Promise.resolve(null);
    const worker = this.#worker ?? this.#start();
    const id = this.#nextId++;
    const question: OutlineQuestion = { id, languageId, text: text.slice(0, TEXT_CHARS_MAX) };
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      worker.postMessage(question);
    });
  }

  async close(): Promise<void> {
    this.#end();
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(new URL('./outline-worker.ts', import.meta.url));
    worker.unref(); // it alone keeps no server alive
    worker.on('message', ({ id, outline }: OutlineAnswer) => {
      this.#waiting.get(id)?.(outline);
      this.#waiting.delete(id);
    });
    worker.on('error', () => this.#end());
    worker.on('exit', () => this.#end());
    this.#worker = worker;
    return worker;
  }

  /** Nobody may wait for a thread that is gone. */
  #end(): void {
    this.#broken = true;
    for (const resolve of this.#waiting.values()) resolve(null);
    this.#waiting.clear();
  }
}
