// Stop strings and the end of the scope as one: whichever comes first in the text ends it.
import { type StopMatch, StopMatcher } from '../stop-strings.ts';
import type { ScopeStop } from './scope-stop.ts';

/** Has StopMatcher's shape and its promise: the result does not depend on how the text is cut. */
export class ScopedMatcher {
  readonly #strings: StopMatcher;
  readonly #scope: ScopeStop;
  #match: StopMatch | null = null;

  constructor(stopStrings: readonly string[], scope: ScopeStop) {
    this.#strings = new StopMatcher(stopStrings);
    this.#scope = scope;
  }

  /** The stop string, or an empty one at the end of the scope, once it is certain. */
  get match(): StopMatch | null {
    return this.#match;
  }

  /** Takes the next piece; returns the text that is certain to be shown now. */
  push(piece: string): string {
    if (this.#match) return '';
    const text = this.#scope.push(this.#strings.push(piece));
    return this.#strings.match ? text + this.#endScope() : this.#noteScope(text);
  }

  /** The text has ended: what was held back comes free. */
  end(): string {
    if (this.#match) return '';
    return this.#scope.push(this.#strings.end()) + this.#endScope();
  }

  #endScope(): string {
    const rest = this.#noteScope(this.#scope.end());
    this.#match ??= this.#strings.match;
    return rest;
  }

  #noteScope(text: string): string {
    const { cut } = this.#scope;
    if (cut !== null) this.#match = { start: cut, end: cut, stopString: '' };
    return text;
  }
}
