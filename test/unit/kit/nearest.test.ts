import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest } from '#kit/nearest.ts';

test('one insertion, deletion, replacement or swap of neighbours is one edit', () => {
  for (const written of ['promt', 'prompts', 'prampt', 'prmopt'])
    assert.equal(nearest(written, ['text', 'prompt'], 1), 'prompt');
  assert.equal(nearest('prmt', ['prompt'], 1), null);
  assert.equal(nearest('prmt', ['prompt'], 2), 'prompt');
});

test('of several the closest wins, and the first of equals', () => {
  assert.equal(nearest('stat', ['start', 'state', 'stop'], 2), 'start');
  assert.equal(nearest('stop', ['start', 'stop'], 2), 'stop');
  assert.equal(nearest('x', [], 3), null);
});
