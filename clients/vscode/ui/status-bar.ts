/** One item of the status bar: ready, thinking, nothing and why, failing and why, or off. */
import type { StatusBarItem } from 'vscode';
import type { Api } from './api.ts';
import { explain, FAILURES, type Outcome, PASSING } from './outcome.ts';

export type State =
  | { kind: 'starting' }
  | { kind: 'off'; why: string }
  | { kind: 'ready' }
  | { kind: 'thinking' }
  | { kind: 'nothing'; outcome: Outcome }
  | { kind: 'failing'; why: string; code: string };

export type Look = { text: string; tooltip: string; warns: boolean };

/** How a state looks. Codicons: https://code.visualstudio.com/api/references/icons-in-labels */
export function lookOf(state: State): Look {
  switch (state.kind) {
    case 'starting':
      return { text: '$(loading~spin) Quern', tooltip: 'Quern is starting', warns: false };
    case 'off':
      return { text: '$(circle-slash) Quern', tooltip: `Quern is off: ${state.why}. Nothing is sent.`, warns: false };
    case 'ready':
      return { text: '$(sparkle) Quern', tooltip: 'Quern is ready', warns: false };
    case 'thinking':
      return { text: '$(loading~spin) Quern', tooltip: 'Quern is thinking', warns: false };
    case 'nothing': {
      const { reason } = state.outcome;
      return { text: '$(dash) Quern', tooltip: `No suggestion (${reason}). ${explain(state.outcome)}`, warns: false };
    }
    case 'failing':
      return {
        text: '$(warning) Quern',
        tooltip: `Quern has no suggestions (${state.code}). ${state.why}`,
        warns: true,
      };
  }
}

export class StatusBar {
  readonly #api: Api;
  readonly #item: StatusBarItem;
  #waiting = 0;
  #started = false;
  #offBecause: string | null = null;
  #last: Outcome | null = null;
  #broken: string | null = null;

  constructor(api: Api) {
    this.#api = api;
    this.#item = api.window.createStatusBarItem('quern.status', api.StatusBarAlignment.Right, 100);
    this.#item.name = 'Quern';
    this.#item.command = 'quern.menu';
    this.#draw();
    this.#item.show();
  }

  get state(): State {
    if (this.#offBecause !== null) return { kind: 'off', why: this.#offBecause };
    if (this.#broken !== null) return { kind: 'failing', code: 'SERVER', why: this.#broken };
    if (!this.#started) return { kind: 'starting' };
    if (this.#waiting > 0) return { kind: 'thinking' };
    const outcome = this.#last;
    if (!outcome?.reason || PASSING.has(outcome.reason)) return { kind: 'ready' };
    if (FAILURES.has(outcome.reason)) return { kind: 'failing', code: outcome.reason, why: explain(outcome) };
    return { kind: 'nothing', outcome };
  }

  get isStarted(): boolean {
    return this.#started;
  }

  started(): void {
    this.#started = true;
    this.#broken = null;
    this.#draw();
  }

  /** The language server cannot run. */
  broken(why: string): void {
    this.#broken = why;
    this.#draw();
  }

  /** Null: on. */
  off(why: string | null): void {
    this.#offBecause = why;
    this.#draw();
  }

  /** A request is on its way; the answer ends it. */
  wait(): () => void {
    this.#waiting += 1;
    this.#draw();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#waiting -= 1;
      this.#draw();
    };
  }

  /** What the user typed away leaves the state as it was. */
  ended(outcome: Outcome): void {
    if (outcome.reason === null || !PASSING.has(outcome.reason)) this.#last = outcome;
    this.#draw();
  }

  /** Another document or other settings: the last outcome is of no interest any more. */
  forget(): void {
    this.#last = null;
    this.#draw();
  }

  dispose(): void {
    this.#item.dispose();
  }

  #draw(): void {
    const { text, tooltip, warns } = lookOf(this.state);
    if (this.#item.text === text && this.#item.tooltip === tooltip) return;
    this.#item.text = text;
    this.#item.tooltip = tooltip;
    this.#item.accessibilityInformation = { label: tooltip };
    const color = warns ? new this.#api.ThemeColor('statusBarItem.warningBackground') : undefined;
    this.#item.backgroundColor = color;
  }
}
