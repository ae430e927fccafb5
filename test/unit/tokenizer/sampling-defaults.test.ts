import assert from 'node:assert/strict';
import { test } from 'node:test';
import { samplingDefaults } from '../../../services/tokenizer/sampling-defaults.ts';

const read = (generationConfig: Record<string, unknown>) => samplingDefaults({ dir: '/m', generationConfig });

test("values of generation_config.json are the model's defaults; others of it mean nothing here", () => {
  const config = { temperature: 0.7, top_p: 0.8, top_k: 20, repetition_penalty: 1.1, eos_token_id: 3, max_length: 20 };
  assert.deepEqual(read(config), { temperature: 0.7, topP: 0.8, topK: 20, repetitionPenalty: 1.1 });
  assert.deepEqual(read({ min_p: 0.05, do_sample: true }), { minP: 0.05 });
  assert.deepEqual(read({ temperature: null }), {});
  assert.deepEqual(read({}), {});
});

test('do_sample false is greedy, whatever else stands there', () => {
  assert.deepEqual(read({ do_sample: false, temperature: 0.7, top_k: 20 }), { temperature: 0, topK: 20 });
});

test('a value out of range is refused with the file, the key and what is expected', () => {
  for (const [key, value] of Object.entries({
    temperature: -1,
    top_p: 0,
    top_k: 1.5,
    min_p: 1,
    repetition_penalty: '1',
  })) {
    assert.throws(
      () => read({ [key]: value }),
      new RegExp(`/m/generation_config\\.json: expected ${key} to be .*; correct it`),
    );
  }
});
