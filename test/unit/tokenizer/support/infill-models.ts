import type { InfillInput } from '../../../../services/tokenizer/infill-prompt.ts';
import { type LoadedModel, loadModel } from '../../../../services/tokenizer/loaded-model.ts';
import type { ModelFiles } from '../../../../services/tokenizer/model-files.ts';
import { bytesOfId } from '../../../../services/tokenizer/vocabulary.ts';
import { mixedSource } from './corpus.ts';
import { byteLevelTokenizer, modelFiles, PRETOKENIZERS, trainMerges } from './vocabularies.ts';

export const source = mixedSource(40_000);
export const merges = trainMerges(source, 300);

export function byteLevelModel(added: readonly string[], files: Partial<ModelFiles> = {}): LoadedModel {
  const json = byteLevelTokenizer({
    merges,
    preTokenizer: PRETOKENIZERS.qwen2!,
    added: added.map((content) => ({ content })),
  });
  return loadModel('m', modelFiles(json, files));
}

export const QWEN = [
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  '<|fim_prefix|>',
  '<|fim_middle|>',
  '<|fim_suffix|>',
  '<|fim_pad|>',
  '<|repo_name|>',
  '<|file_sep|>',
];
export const qwen = byteLevelModel(QWEN);

export const input = (over: Partial<InfillInput> = {}): InfillInput => ({
  prefix: 'def f(a):\n    ret',
  suffix: '\n\nprint(f(1))\n',
  path: '',
  repository: '',
  chunks: [],
  maxPromptTokens: null,
  ...over,
});

/** The prompt with control tokens as their literals and text as it reads. */
export function shown(model: LoadedModel, over: Partial<InfillInput> = {}): string {
  const { vocabulary } = model.tokenizer;
  const { ids } = model.infill!.render(input(over));
  return Buffer.concat([...ids].map((id) => bytesOfId(vocabulary, id))).toString();
}

export const FILES = {
  path: 'src/main.py',
  repository: 'demo',
  chunks: [
    { path: 'a.py', text: 'A = 1\n' },
    { path: 'b.py', text: 'B = 2' },
  ],
};
