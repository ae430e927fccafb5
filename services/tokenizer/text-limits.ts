// Sizes of untrusted text, checked before any pattern runs over it.
import { QuernError } from '#kit/errors.ts';
import { CLASS_OF_UNIT, classOfPair, HIGH_SURROGATE, MARK, WHITE_SPACE } from './character-classes.ts';
import { LIBRARY_TEXT_BYTES_MAX, MARK_RUN_UNITS_MAX, RUN_UNITS_MAX } from './limits.ts';

/** Text without a unit from here on has no combining marks. */
const MAY_HOLD_MARKS = /[\u0300-\uffff]/;

function tooLong(field: string, description: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, {
    reason: 'TEXT_TOO_LONG',
    fields: [{ field, description }],
  });
}

/** Length of the longest run of blanks or of characters that are none, UTF-16 units. */
export function longestRun(text: string): number {
  let longest = 0;
  let start = 0;
  let wasBlank = false;
  for (let i = 0; i <= text.length; i += 1) {
    const isBlank = i < text.length && (CLASS_OF_UNIT[text.charCodeAt(i)]! & WHITE_SPACE) !== 0;
    if (isBlank === wasBlank && i < text.length) continue;
    longest = Math.max(longest, i - start);
    start = i;
    wasBlank = isBlank;
  }
  return longest;
}

/** Length of the longest run of combining marks, UTF-16 units. */
export function longestMarkRun(text: string): number {
  if (!MAY_HOLD_MARKS.test(text)) return 0;
  let longest = 0;
  let run = 0;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    let flags = CLASS_OF_UNIT[unit]!;
    let units = 1;
    const low = flags === HIGH_SURROGATE ? text.charCodeAt(i + 1) : 0; // NaN at the end
    if (low >= 0xdc00 && low < 0xe000) {
      flags = classOfPair(unit, low);
      units = 2;
      i += 1;
    }
    run = (flags & MARK) === 0 ? 0 : run + units;
    if (run > longest) longest = run;
  }
  return longest;
}

/** Throws INVALID_ARGUMENT, reason TEXT_TOO_LONG, when the texts are longer than the bound, in sum or without a break. */
export function checkTexts(
  texts: Iterable<string>,
  options: { field: string; maxBytes: number; isByteLevel: boolean },
): number {
  const { field, isByteLevel } = options;
  const maxBytes = isByteLevel ? options.maxBytes : Math.min(options.maxBytes, LIBRARY_TEXT_BYTES_MAX);
  let size = 0;
  for (const text of texts) {
    size += Buffer.byteLength(text);
    if (size > maxBytes) {
      throw tooLong(field, `expected at most ${maxBytes} bytes of text in a request, got more; send less`);
    }
    if (text.length > RUN_UNITS_MAX && longestRun(text) > RUN_UNITS_MAX) {
      throw tooLong(field, `expected a blank at least every ${RUN_UNITS_MAX} characters, got a longer run; send less`);
    }
    const marks = text.length > MARK_RUN_UNITS_MAX ? longestMarkRun(text) : 0;
    if (marks > MARK_RUN_UNITS_MAX) {
      const expected = `expected at most ${MARK_RUN_UNITS_MAX} combining marks in a row`;
      throw tooLong(field, `${expected}, got ${marks}; send text`);
    }
  }
  return size;
}
