// "${steps.ID.content}" inside the strings of a step's arguments: it stands for what another step gave. A result is put in as
// text into one JSON string, once: whatever it holds, it can neither end the string nor be read as a reference itself.
import { isJsonObject, mapStrings, textsOf } from './json-value.ts';

const REFERENCE = /\$\{steps\.([A-Za-z0-9_-]{1,64})\.content\}/g;
const MARK = '${steps';

export type References = { ok: true; ids: string[] } | { ok: false; reason: string };

/** The steps that arguments refer to. */
export function referencesOf(argumentsValue: unknown): References {
  const ids = new Set<string>();
  for (const { text, isKey } of textsOf(argumentsValue)) {
    const rest = text.replace(REFERENCE, (_, id: string) => {
      ids.add(id);
      return '';
    });
    if (isKey && rest !== text)
      return { ok: false, reason: 'a reference stands in a key; it may stand in values only' };
    if (rest.includes(MARK)) {
      const shown = JSON.stringify(text.slice(text.indexOf(MARK), text.indexOf(MARK) + 48));
      return { ok: false, reason: `expected references of the form "\${steps.ID.content}", got ${shown}` };
    }
  }
  return { ok: true, ids: [...ids] };
}

export type Filled = { ok: true; argumentsJson: string } | { ok: false; bytes: number };

/** Without building the text: one result may stand in thousands of places. */
function charsWith(argumentsValue: unknown, contentOf: (id: string) => string): number {
  let chars = 0;
  for (const { text, isKey } of textsOf(argumentsValue)) {
    chars += text.length;
    if (isKey) continue;
    for (const [reference, id] of text.matchAll(REFERENCE)) chars += contentOf(id as string).length - reference.length;
  }
  return chars;
}

/**
 * The arguments with every reference replaced; not ok: they would have more than `bytesMax`, and `bytes` is at least how many.
 * `contentOf` knows all ids that referencesOf() named.
 */
export function withReferences(argumentsValue: unknown, contentOf: (id: string) => string, bytesMax: number): Filled {
  const chars = charsWith(argumentsValue, contentOf);
  if (chars > bytesMax) return { ok: false, bytes: chars };
  const filled = mapStrings(argumentsValue, (text) => text.replace(REFERENCE, (_, id: string) => contentOf(id)));
  const argumentsJson = JSON.stringify(isJsonObject(filled) ? filled : {});
  const bytes = Buffer.byteLength(argumentsJson);
  return bytes > bytesMax ? { ok: false, bytes } : { ok: true, argumentsJson };
}
