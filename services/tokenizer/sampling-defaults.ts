// How a model wants to be sampled, as its generation_config.json says: what applies where a request does not say otherwise.
import { QuernError } from '#kit/errors.ts';
import type { JsonObject } from './model-files.ts';

export type SamplingDefaults = {
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
};

type Bounds = { key: keyof SamplingDefaults; isValid(value: number): boolean; expected: string };

const FIELDS: Readonly<Record<string, Bounds>> = {
  temperature: { key: 'temperature', isValid: (value) => value >= 0 && value <= 2, expected: '0..2' },
  top_p: { key: 'topP', isValid: (value) => value > 0 && value <= 1, expected: '(0, 1]' },
  top_k: { key: 'topK', isValid: (value) => Number.isInteger(value) && value >= 0, expected: 'an integer >= 0' },
  min_p: { key: 'minP', isValid: (value) => value >= 0 && value < 1, expected: '[0, 1)' },
  repetition_penalty: { key: 'repetitionPenalty', isValid: (value) => value > 0 && value <= 2, expected: '(0, 2]' },
};

/** `"do_sample": false` is greedy whatever temperature stands beside it. Throws MODEL_LOAD_FAILED for a value out of range. */
export function samplingDefaults({
  dir,
  generationConfig,
}: {
  dir: string;
  generationConfig: JsonObject;
}): SamplingDefaults {
  const defaults: SamplingDefaults = {};
  for (const [name, { key, isValid, expected }] of Object.entries(FIELDS)) {
    const value = generationConfig[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'number' || !isValid(value)) {
      const message = `${dir}/generation_config.json: expected ${name} to be ${expected}, got ${JSON.stringify(value)}; correct it`;
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' });
    }
    defaults[key] = value;
  }
  if (generationConfig.do_sample === false) defaults.temperature = 0;
  return defaults;
}
