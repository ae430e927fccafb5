// DeepSeek. V3 and R1: <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{…}\n```<｜tool▁call▁end｜>…
// V3.1: <｜tool▁call▁begin｜>f<｜tool▁sep｜>{…}<｜tool▁call▁end｜>. Then <｜tool▁calls▁end｜>. (U+FF5C, U+2581)
import type { Calls, Format } from './call-parser.ts';
import { CallFailure, NotACall } from './events.ts';
import { expect, type Step, skipBlanks, Tags, take, takeWhile } from './feed.ts';
import { CALL_NAME_UNITS_MAX } from './limits.ts';

const ALL_BEGIN = '<｜tool▁calls▁begin｜>';
const ALL_END = '<｜tool▁calls▁end｜>';
const BEGIN = '<｜tool▁call▁begin｜>';
const END = '<｜tool▁call▁end｜>';
const SEPARATOR = '<｜tool▁sep｜>';
export const DEEPSEEK_TAGS = [ALL_BEGIN, ALL_END, BEGIN, END, SEPARATOR];

const FENCE = '```';
const WORD = /[^\s<>"'{}()[\]\ud800]*/y;

function* word(calls: Calls): Step<string> {
  yield* skipBlanks(calls.feed);
  return yield* takeWhile(calls.feed, WORD, CALL_NAME_UNITS_MAX);
}

/** `isFenced`: kind and name on both sides of the separator, the arguments in a code fence. */
function deepseek(isFenced: boolean): Format {
  return function* (calls) {
    const { feed, json } = calls;
    const begin = calls.tag(BEGIN);
    const end = calls.tag(END);
    const allBegin = calls.tag(ALL_BEGIN);
    const allEnd = calls.tag(ALL_END);
    const separator = calls.tag(SEPARATOR);
    const opening = new Tags([allBegin, begin]);

    let tag: string | null = null;
    function* body(): Step {
      // The tag of all calls belongs to the first of them.
      if (tag === allBegin) {
        yield* skipBlanks(feed);
        if (!(yield* take(feed, begin))) throw new NotACall();
      }
      const head = yield* word(calls);
      yield* expect(feed, separator);
      const name = isFenced ? yield* word(calls) : head;
      if (isFenced) {
        yield* expect(feed, FENCE);
        yield* take(feed, 'json');
      }
      if ((yield* skipBlanks(feed)) < 0) throw new CallFailure('it is cut off');
      yield* json.read(feed, calls.start(name), calls.arguments);
    }
    for (tag = yield* calls.textUntil(opening); tag !== null; tag = yield* calls.textUntil(opening)) {
      const isCall = yield* calls.call(body, tag.length, { open: begin, close: end });
      if (!isCall) continue;
      if (isFenced) yield* calls.swallow(FENCE);
      yield* calls.swallow(end);
      yield* calls.swallow(allEnd);
    }
  };
}

export const deepseekV3 = deepseek(true);
export const deepseekV31 = deepseek(false);
