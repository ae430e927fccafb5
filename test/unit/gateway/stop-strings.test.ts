import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findStop, StopMatcher } from '../../../services/gateway/stop-strings.ts';

function feed(pieces: readonly string[], patterns: readonly string[]) {
  const matcher = new StopMatcher(patterns);
  let shown = '';
  for (const piece of pieces) shown += matcher.push(piece);
  shown += matcher.end();
  return { shown, match: matcher.match };
}

/** A small alphabet makes overlaps and near-matches common. */
const text = fc.string({ unit: fc.constantFrom('a', 'b', '\n', 'é', '😀'), maxLength: 40 });
const patterns = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\n', 'é', '😀'), minLength: 1, maxLength: 5 }), {
  minLength: 1,
  maxLength: 4,
});

test('streamed over any cut equals the whole', () => {
  fc.assert(
    fc.property(text, patterns, fc.array(fc.nat(40), { maxLength: 12 }), (whole, stops, cuts) => {
      const places = [0, ...cuts.map((c) => Math.min(c, whole.length)), whole.length].sort((a, b) => a - b);
      const pieces = places.slice(1).map((place, i) => whole.slice(places[i] as number, place));
      const expected = findStop(whole, stops);
      const { shown, match } = feed(pieces, stops);
      assert.deepEqual(match, expected);
      assert.equal(shown, expected ? whole.slice(0, expected.start) : whole);
    }),
    { numRuns: 5000 },
  );
});

test('never shows a part of a stop string, never holds text that cannot belong to one', () => {
  fc.assert(
    fc.property(text, patterns, (whole, stops) => {
      const matcher = new StopMatcher(stops);
      let shown = '';
      let read = '';
      for (const unit of whole.split('')) {
        read += unit;
        shown += matcher.push(unit);
        if (matcher.match) return;
        const held = read.slice(shown.length);
        const found = findStop(held, stops);
        const begins = stops.some((stop) => stop.startsWith(held) && stop.length > held.length);
        // Held text begins a stop string, or contains one that an earlier or longer candidate may still beat.
        assert.ok(held === '' || begins || (found !== null && stops.some((stop) => stop.startsWith(held.slice(0, 1)))));
        if (!found) assert.ok(held === '' || begins);
      }
    }),
    { numRuns: 2000 },
  );
});

test('the earliest start wins, then the longest', () => {
  assert.deepEqual(feed(['xab', 'cdef'], ['bc', 'abcd']).match, { start: 1, end: 5, stopString: 'abcd' });
  assert.deepEqual(feed(['xab', 'cdef'], ['ab', 'abcd']).match, { start: 1, end: 5, stopString: 'abcd' });
  assert.deepEqual(feed(['xab', 'cz'], ['bc', 'abcd']).match, { start: 2, end: 4, stopString: 'bc' });
});

test('a match that waited for a longer one is settled by the end', () => {
  const { shown, match } = feed(['foo\n'], ['\n', '\n\n']);
  assert.equal(shown, 'foo');
  assert.equal(match?.stopString, '\n');
});
