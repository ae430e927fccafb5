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

export function hasReference(text: string): boolean {
  return text.includes(MARK);
}

/** The arguments with every reference replaced. `contentOf` knows all ids that referencesOf() named. */
export function withReferences(argumentsValue: unknown, contentOf: (id: string) => string): string {
  const filled = mapStrings(argumentsValue, (text) => text.replace(REFERENCE, (_, id: string) => contentOf(id)));
  return JSON.stringify(isJsonObject(filled) ? filled : {});
}
