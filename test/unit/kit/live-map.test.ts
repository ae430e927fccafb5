import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LiveMap } from '#kit/live-map.ts';

test('a LiveMap answers as a Map does, whatever is done to both', () => {
  const step = fc.tuple(fc.constantFrom('set', 'delete', 'clear', 'set', 'set', 'delete'), fc.nat({ max: 12 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const live = new LiveMap<number, { at: number }>();
      const plain = new Map<number, { at: number }>();
      for (const [i, [what, key]] of steps.entries()) {
        if (what === 'set') for (const map of [live, plain]) map.set(key, { at: i });
        else if (what === 'delete') assert.equal(live.delete(key), plain.delete(key));
        else for (const map of [live, plain]) map.clear();
        assert.equal(live.size, plain.size);
        assert.equal(live.has(key), plain.has(key));
        assert.deepEqual(live.get(key), plain.get(key));
        assert.deepEqual([...live.values()], [...plain.values()]);
      }
    }),
  );
});

test('values removed while they are iterated over are not answered', () => {
  const map = new LiveMap<string, { name: string }>();
  for (const name of ['a', 'b', 'c']) map.set(name, { name });
  const seen: string[] = [];
  for (const { name } of map.values()) {
    seen.push(name);
    map.delete('b');
  }
  assert.deepEqual(seen, ['a', 'c']);
});
