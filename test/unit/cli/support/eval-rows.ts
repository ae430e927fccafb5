/** Rows and the head of an evaluation, as "quern eval infill" makes them. */
import { newRun, type Row } from '../../../../services/cli/eval/result.ts';

/** An answered hole: hole3 is of Go, hole4 of Python. */
export const row = (id: number, over: Partial<Row> = {}): Row => ({
  ...{
    id: `hole${id}`,
    language: id % 2 ? 'go' : 'python',
    path: 'a',
    line: 1,
    failure: null,
    finish: 'stop',
    tokens: 5,
  },
  ...{
    exact: false,
    edit_similarity: 0.5,
    parses: true,
    parses_empty: false,
    identifier_exact: false,
    latency_ms: 10 * id,
  },
  ...{ identifier_precision: 0.5, identifier_recall: 0.25, identifier_f1: 1 / 3, ...over },
});

/** A hole without an answer. */
export const failed = (id: number, failure: string): Row => ({
  ...row(id, {
    exact: null,
    edit_similarity: null,
    parses: null,
    parses_empty: null,
    identifier_exact: null,
    latency_ms: null,
  }),
  ...{ identifier_precision: null, identifier_recall: null, identifier_f1: null, tokens: null, failure, finish: '' },
});

/** Of `row`s; what tests look at is in `settings`. */
export const RUN = newRun({
  ...{ quern: '0.1.0', commit: '', at: '2026-11-22T04:00:00.000Z' },
  model: {
    ...{
      name: 'mini',
      hash: 'a',
      vocabulary: 'b',
      fim_family: 'qwen',
      prompt_order: 'psm',
      dtype: 'bf16',
      backend: 'cpu',
    },
    ...{ context_length: 2048, infill_prompt_tokens: 0 },
  },
  settings: {
    ...{ kind: 'line', seed: 1, holes_wanted: 4, max_tokens: 64, temperature: 0, concurrency: 2, files: 2 },
    ...{ sources: 'the held-out set', sources_hash: 'c', lines_before: 255, lines_after: 64, prompt_tokens: 0 },
  },
});
