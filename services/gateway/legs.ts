// What the engines know of one request. A leg is one handle that carries some of its choices.
import type { Choice } from './choice.ts';
import type { EngineSession, LateEnd } from './engine-session.ts';

/** One handle at one engine and the choices it carries. Handles of two engines may have one number. */
export type Leg = { engine: EngineSession; handle: number; choices: readonly number[] };

export class Legs {
  #legs: Leg[] = [];

  get isEmpty(): boolean {
    return this.#legs.length === 0;
  }

  add(leg: Leg): void {
    this.#legs.push(leg);
  }

  drop(leg: Leg): void {
    this.#legs = this.#legs.filter((one) => one !== leg);
  }

  /** Asks the engines to end; they say when they have. */
  cancel(): void {
    for (const { engine, handle } of this.#legs) engine.cancel(handle, { forget: false });
  }

  /** As cancel, and nothing more is heard of them but their ends. */
  forget(onLateEnd: LateEnd): void {
    for (const { engine, handle } of this.#legs) engine.cancel(handle, { forget: true, onLateEnd });
    this.#legs = [];
  }

  /** The unfinished choices that no leg carries: all in one group while none has tokens, else each in its own. */
  uncarried(choices: readonly Choice[]): number[][] {
    const carried = new Set(this.#legs.flatMap((leg) => leg.choices));
    const open = choices.flatMap((choice, i) => (choice.finished || carried.has(i) ? [] : [i]));
    const isFresh = open.length === choices.length && choices.every((choice) => choice.ids.length === 0);
    return isFresh ? [open] : open.map((i) => [i]);
  }
}
