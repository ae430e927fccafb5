/** How requests for suggestions ended, as the language server tells it, and what that means to a person. */
import type { Reason } from '../../lsp/core/reasons.ts';

export type Outcome = {
  uri: string;
  invoked: boolean;
  /** Of the query; "" = none was sent. */
  id: string;
  /** Null: there is a suggestion. */
  reason: Reason | null;
  /** Of FILTERED. */
  rule: string | null;
  from: 'none' | 'cache' | 'stream';
  partial: boolean;
  /** "" = nothing was sent. */
  traceId: string;
  count: number;
};

/** Ended because the user went on: says nothing about the mesh or the place. */
export const PASSING: ReadonlySet<Reason> = new Set<Reason>(['DEBOUNCED', 'CANCELLED', 'STALE']);

/** What needs somebody's hand before there are suggestions again. */
export const FAILURES: ReadonlySet<Reason> = new Set<Reason>([
  ...(['OFFLINE', 'UNAUTHENTICATED', 'MODEL_NO_FIM', 'FAILED'] as const),
]);

const EXPLANATIONS: Readonly<Record<Reason, string>> = {
  DISABLED: 'Suggestions are turned off here, by a setting or for this language.',
  EXCLUDED: 'This file may hold secrets by its name or text, or is larger than 4 MiB: nothing of it is sent.',
  PLACE: 'More than 8 characters stand behind the cursor. Ask by hand (Alt+\\) to get one all the same.',
  DEBOUNCED: 'You typed on before the request was sent.',
  CANCELLED: 'You typed on, or moved, before the answer came.',
  STALE: 'The text had changed by the time the answer came.',
  FILTERED: "The model's text was of no use here",
  EMPTY: 'The model had nothing to say here.',
  TIMEOUT: 'Nothing came in time. The trace shows where the time went; quern.hardDeadlineMs is the limit.',
  OVERLOADED: 'The mesh sheds load at the moment. It is asked again in some seconds.',
  UNAUTHENTICATED: 'The API key is missing or refused. Set it with "Quern: Set API Key…".',
  MODEL_NO_FIM: 'The model cannot fill in the middle. Name one that can in quern.model.',
  OFFLINE:
    'The mesh does not answer at its address. Is it running? It is asked again in some seconds, or at once by hand.',
  FAILED: 'The mesh answered with an error; the output channel "Quern" has it.',
};

const ruleText = (rule: string | null): string => (rule ? ` (rule ${rule}).` : '.');

/** One or two sentences. */
export function explain({ reason, rule, from, partial, count }: Outcome): string {
  if (reason === null) {
    const source = from === 'cache' ? 'from the cache' : 'from the mesh';
    const part = partial ? ', cut at the soft deadline' : '';
    return `The last request had ${count === 1 ? 'a suggestion' : `${count} suggestions`} ${source}${part}.`;
  }
  return reason === 'FILTERED' ? `${EXPLANATIONS.FILTERED}${ruleText(rule)}` : EXPLANATIONS[reason];
}

/** Outcomes that are remembered for diagnostics. */
const REMEMBERED_MAX = 20;

/** The newest outcomes. */
export class OutcomeBook {
  readonly #known: Outcome[] = [];

  add(outcome: Outcome): void {
    this.#known.push(outcome);
    if (this.#known.length > REMEMBERED_MAX) this.#known.shift();
  }

  /** The newest that says something: one that the user typed away is passed over where there is another. */
  get last(): Outcome | null {
    const telling = this.#known.findLast(({ reason }) => reason === null || !PASSING.has(reason));
    return telling ?? this.#known.at(-1) ?? null;
  }

  get lastTraceId(): string | null {
    return this.#known.findLast(({ traceId }) => traceId !== '')?.traceId ?? null;
  }

  /** Oldest first. */
  get all(): readonly Outcome[] {
    return this.#known;
  }
}
