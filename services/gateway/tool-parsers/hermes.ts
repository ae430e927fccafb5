// Hermes, Qwen2.5, Qwen3: <tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>
import { type Calls, mustBe } from './call-parser.ts';
import { type Step, Tags } from './feed.ts';
import { readJsonCall } from './json-call.ts';

export const HERMES_TAGS = ['<tool_call>', '</tool_call>'];

export function* hermes(calls: Calls): Step {
  const open = calls.tag('<tool_call>');
  const close = calls.tag('</tool_call>');
  const opening = new Tags([open]);
  function* body(): Step {
    yield* mustBe(calls, '{');
    yield* readJsonCall(calls);
  }
  while ((yield* calls.textUntil(opening)) !== null) {
    let isCall = yield* calls.call(body, open.length, { open, close });
    // Some models put several objects between one pair of tags.
    while (isCall && !(yield* calls.swallow(close)) && (yield* calls.separatorBefore(',', '{'))) {
      isCall = yield* calls.call(body, 0, { open, close });
    }
  }
}
