// A call as one JSON object: {"name": "f", "arguments": {…}}. The keys may come in any order; others than these are left out.
import type { Calls } from './call-parser.ts';
import { CallFailure, NotACall } from './events.ts';
import { type Step, skipBlanks, TextSource } from './feed.ts';

const BRACE_END = 0x7d;
const QUOTE = 0x22;
const BRACE = 0x7b;

export type JsonCallOptions = {
  /** Nothing but its shape tells a call from an answer in JSON: both keys must be there, and none that calls never have. */
  isBare: boolean;
};

const CALL_KEYS: ReadonlySet<string> = new Set(['name', 'arguments', 'parameters', 'type', 'id', 'function']);

class JsonCall {
  readonly #calls: Calls;
  readonly #isBare: boolean;
  #name: string | null = null;
  /** Arguments that came before the name, as they were written. */
  #early: string | null = null;
  #isStarted = false;

  constructor(calls: Calls, { isBare }: JsonCallOptions) {
    this.#calls = calls;
    this.#isBare = isBare;
  }

  *read(): Step {
    yield* this.#members();
    if (this.#name === null) throw this.#isBare ? new NotACall() : new CallFailure('it has no name');
    if (!this.#isStarted) {
      if (this.#isBare && this.#early === null) throw new NotACall();
      yield* this.#start(this.#early ?? '{}');
    }
  }

  *#members(): Step {
    const { feed, json } = this.#calls;
    yield* json.expect(feed, BRACE);
    let goesOn = (yield* skipBlanks(feed)) !== BRACE_END;
    if (!goesOn) feed.at += 1;
    while (goesOn) {
      yield* this.#member(yield* json.key(feed));
      goesOn = yield* json.another(feed, BRACE_END);
    }
  }

  *#member(key: string): Step {
    const { feed, json } = this.#calls;
    if (this.#isBare && !CALL_KEYS.has(key) && !this.#isStarted) throw new NotACall();
    const isText = (yield* skipBlanks(feed)) === QUOTE;
    if ((key === 'name' || key === 'function') && this.#name === null && isText) {
      this.#name = JSON.parse(yield* json.raw(feed)) as string;
    } else if (key === 'function' && this.#name === null) {
      yield* this.#members();
    } else if ((key === 'arguments' || key === 'parameters') && !this.#isStarted && this.#early === null) {
      if (this.#name === null) this.#early = yield* json.raw(feed);
      else yield* this.#arguments();
    } else yield* json.skip(feed);
    // The name came last: nothing is held any longer.
    if (this.#name !== null && this.#early !== null && !this.#isStarted) yield* this.#start(this.#early);
  }

  *#arguments(): Step {
    const { feed, json } = this.#calls;
    this.#isStarted = true;
    const schema = this.#calls.start(this.#name ?? '');
    yield* json.read(feed, schema, this.#calls.arguments);
  }

  *#start(argumentsText: string): Step {
    const { json } = this.#calls;
    this.#isStarted = true;
    const schema = this.#calls.start(this.#name ?? '');
    const source = new TextSource(argumentsText);
    yield* json.read(source, schema, this.#calls.arguments);
    if ((yield* skipBlanks(source)) >= 0) throw new CallFailure('its JSON is broken: its arguments are no object');
  }
}

/** Reads the object that comes next. Throws CallFailure, NotACall. */
export function readJsonCall(calls: Calls, options: JsonCallOptions = { isBare: false }): Step {
  return new JsonCall(calls, options).read();
}

/** In bare form what breaks before the client has heard of it was an answer in JSON. */
export function* readBareCall(calls: Calls, hasStarted: () => boolean): Step {
  try {
    yield* readJsonCall(calls, { isBare: true });
  } catch (error) {
    if (error instanceof CallFailure && !hasStarted()) throw new NotACall();
    throw error;
  }
}
