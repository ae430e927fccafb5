// Mistral. Until tokenizer v7: [TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, …]. From v11 on, per call:
// [TOOL_CALLS]f[ARGS]{"a": 1}, with [CALL_ID]… before [ARGS] in some.
import type { Calls } from './call-parser.ts';
import { CallFailure, NotACall } from './events.ts';
import { type Step, skipBlanks, Tags, take, takeWhile } from './feed.ts';
import { readJsonCall } from './json-call.ts';
import { CALL_NAME_UNITS_MAX } from './limits.ts';

export const MISTRAL_TAGS = ['[TOOL_CALLS]', '[ARGS]', '[CALL_ID]'];

const BRACKET = 0x5b;
const BRACE = 0x7b;
const NAME = /[A-Za-z0-9_.:/-]*/y;

export function* mistral(calls: Calls): Step {
  const open = calls.tag('[TOOL_CALLS]');
  const argumentsTag = calls.tag('[ARGS]');
  const idTag = calls.tag('[CALL_ID]');
  const opening = new Tags([open]);
  const { feed, json } = calls;
  let isList: boolean = false;

  function* named(): Step {
    const name = yield* takeWhile(feed, NAME, CALL_NAME_UNITS_MAX);
    if (name === '') throw new NotACall();
    if (yield* take(feed, idTag)) yield* takeWhile(feed, /[A-Za-z0-9_-]*/y, CALL_NAME_UNITS_MAX);
    const isMarked = yield* take(feed, argumentsTag);
    const next = yield* skipBlanks(feed);
    if (next < 0) throw new CallFailure('it is cut off');
    if (!isMarked && next !== BRACE) throw new NotACall();
    yield* json.read(feed, calls.start(name), calls.arguments);
  }
  function* first(): Step {
    const next = yield* skipBlanks(feed);
    isList = next === BRACKET;
    if (next === BRACE) {
      yield* readJsonCall(calls); // a list of one, without its brackets
      return;
    }
    if (!isList) {
      yield* named();
      return;
    }
    feed.at += 1;
    if ((yield* skipBlanks(feed)) !== BRACE) throw new NotACall();
    yield* readJsonCall(calls);
  }
  function* next(): Step {
    yield* readJsonCall(calls);
  }
  while ((yield* calls.textUntil(opening)) !== null) {
    const isCall = yield* calls.call(first, open.length, { open });
    let goesOn: boolean = isCall && isList;
    while (goesOn && (yield* calls.separatorBefore(',', '{'))) goesOn = yield* calls.call(next, 0, { open });
    if (goesOn) yield* calls.swallow(']');
  }
}
