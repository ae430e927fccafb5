import assert from 'node:assert/strict';
import { test } from 'node:test';
import { corpus, parse } from './support/corpus.ts';

for (const { format, cases } of corpus) {
  for (const { name, output, starts_inside: startsInside, expected } of cases) {
    test(`${format}: ${name}`, () => {
      const { parts, begun, ids } = parse(format, [output], startsInside);
      assert.deepEqual(parts, expected);
      const made = parts.flatMap((part) => ('call' in part ? [part.call.arguments] : []));
      for (const text of made) {
        assert(JSON.parse(text) instanceof Object);
        assert(begun.includes(text), 'the pieces together are the arguments');
      }
      assert.equal(new Set(ids).size, ids.length);
    });
  }
}
