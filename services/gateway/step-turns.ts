// In which order and in how many turns of the event loop the requests of one engine step are told that it is over. Telling is
// writing to the client, and with many streams that takes milliseconds: those whose first step it is come first, in a turn of
// their own, because HTTP/2 sends what was written at the turn's end; then the others, some at a time, so that what arrives
// meanwhile (new requests, the tokenizer's answers) does not wait for all of them.
import { STEP_TURN_HANDLES } from './limits.ts';

export type Told = {
  /** A step of it has been told. */
  hasBegun: boolean;
};

/** Invariant: each handle of add() is told exactly once, before any handle of a later add(). */
export class StepTurns<H extends Told> {
  readonly #tell: (handle: H) => void;
  #due: H[] = [];
  #turn: NodeJS.Immediate | null = null;

  /** `tell` must not throw. */
  constructor(tell: (handle: H) => void) {
    this.#tell = tell;
  }

  /** Tells those that begin now, the others in later turns. */
  add(handles: readonly H[]): void {
    this.finish();
    for (const handle of handles)
      if (!handle.hasBegun) this.#one(handle);
      else this.#due.push(handle);
    this.#schedule();
  }

  /** Tells all that are still to be told. */
  finish(): void {
    if (this.#turn) clearImmediate(this.#turn);
    this.#turn = null;
    const due = this.#due;
    this.#due = [];
    for (const handle of due) this.#one(handle);
  }

  #schedule(): void {
    if (this.#due.length === 0) return;
    this.#turn = setImmediate(() => {
      this.#turn = null;
      for (const handle of this.#due.splice(0, STEP_TURN_HANDLES)) this.#one(handle);
      this.#schedule();
    });
  }

  #one(handle: H): void {
    handle.hasBegun = true;
    this.#tell(handle);
  }
}
