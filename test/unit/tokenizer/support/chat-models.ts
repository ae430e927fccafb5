// Models with a chat template, rendered without a service.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RenderChatRequest } from '../../../../services/gen/quern/tokenizer/v1/tokenizer.ts';
import { parseConversation } from '../../../../services/tokenizer/chat-variables.ts';
import { type LoadedModel, loadModel } from '../../../../services/tokenizer/loaded-model.ts';
import { mixedSource } from './corpus.ts';
import type { goldenRequest } from './requests.ts';
import { byteLevelTokenizer, modelFiles, PRETOKENIZERS, trainMerges } from './vocabularies.ts';

export const golden = join(import.meta.dirname, '../../../golden/tokenizer');
export const readJson = (name: string) => JSON.parse(readFileSync(join(golden, name), 'utf8'));
export const cases = readJson('chat-cases.json') as Parameters<typeof goldenRequest>[0][];
export const CHATML = readFileSync(join(golden, 'chatml.jinja'), 'utf8');

export const LITERALS = [
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  '<tool_call>',
  '</tool_call>',
  '<tool_response>',
  '</tool_response>',
  '<think>',
  '</think>',
];
export const json = byteLevelTokenizer({
  merges: trainMerges(mixedSource(30_000), 300),
  preTokenizer: PRETOKENIZERS.qwen2!,
  normalizer: { type: 'NFC' },
  added: LITERALS.map((content) => ({ content, special: content.startsWith('<|') })),
});

export function model(chatTemplate: string, config: Record<string, unknown> = {}): LoadedModel {
  return loadModel('m', modelFiles(json, { chatTemplate, tokenizerConfig: config }));
}

export const render = (loaded: LoadedModel, request: RenderChatRequest) =>
  loaded.chat!.render(parseConversation(request));
export const chatml = model(CHATML);
export const added = new Set(json.added_tokens.map(({ id }) => id));
export const control = (ids: Iterable<number>): number[] => [...ids].filter((id) => added.has(id));
