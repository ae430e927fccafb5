// Llama 3.1 and later: [<|python_tag|>]{"name": "f", "parameters": {"a": 1}}, several joined by ";". Without the tag a call
// can only stand at the beginning, and an answer in JSON looks much like one: name and parameters tell them apart.
import { type Calls, mustBe } from './call-parser.ts';
import { peek, type Step, Tags } from './feed.ts';
import { readBareCall, readJsonCall } from './json-call.ts';

export const LLAMA_JSON_TAGS = ['<|python_tag|>'];

const BRACE = 0x7b;

export function* llama3Json(calls: Calls): Step {
  const tag = calls.tag('<|python_tag|>');
  const opening = new Tags([tag]);
  function* tagged(): Step {
    yield* mustBe(calls, '{');
    yield* readJsonCall(calls);
  }
  function* bare(): Step {
    yield* readBareCall(calls, () => calls.isOpen);
  }
  function* others(): Step {
    while (yield* calls.separatorBefore(';', '{')) {
      if (!(yield* calls.call(bare, 0, { open: tag }))) return;
    }
  }
  yield* calls.blanksAsText();
  if ((yield* peek(calls.feed)) === BRACE && (yield* calls.call(bare, 0, { open: tag }))) yield* others();
  while ((yield* calls.textUntil(opening)) !== null) {
    if (yield* calls.call(tagged, tag.length, { open: tag })) yield* others();
  }
}
