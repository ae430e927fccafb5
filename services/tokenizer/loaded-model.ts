// One model as the service serves it: its tokenizer, chat template and FIM format, built from the files of its folder.
import { type ChatRenderer, createChatRenderer } from './chat-prompt.ts';
import { createChatTemplate } from './chat-template.ts';
import { chooseFimFamily } from './fim-choice.ts';
import { infillAdvice } from './infill-advice.ts';
import { createInfillRenderer, type InfillRenderer } from './infill-prompt.ts';
import type { JsonObject, ModelFiles } from './model-files.ts';
import { chooseOutputFormat, type OutputFormat } from './output-format.ts';
import { type SamplingDefaults, samplingDefaults } from './sampling-defaults.ts';
import { eosTokenIds } from './special-tokens.ts';
import { TextTokenizer } from './tokenizer.ts';

export type LoadedModel = {
  readonly name: string;
  readonly tokenizer: TextTokenizer;
  /** Null: no chat template. */
  readonly chat: ChatRenderer | null;
  readonly chatTemplateHash: string;
  /** Null: no FIM. */
  readonly infill: InfillRenderer | null;
  /** Tokens that an infill's prompt is best given; null = as many as fit. */
  readonly infillPromptTokens: number | null;
  /** How its output is to be read. */
  readonly outputFormat: OutputFormat;
  readonly eosTokenIds: readonly number[];
  readonly samplingDefaults: SamplingDefaults;
  /** Of the model's configuration; null = not told. */
  readonly contextLength: number | null;
};

/** Configurations write 10^30 for "no limit". */
const CONTEXT_LENGTH_MAX = 2 ** 30;

function contextLengthOf({ modelConfig, tokenizerConfig }: ModelFiles): number | null {
  const text = (modelConfig.text_config ?? {}) as JsonObject;
  const candidates = [
    modelConfig.max_position_embeddings,
    text.max_position_embeddings,
    tokenizerConfig.model_max_length,
  ];
  const isLength = (value: unknown): value is number =>
    typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= CONTEXT_LENGTH_MAX;
  return candidates.find(isLength) ?? null;
}

/** Throws MODEL_LOAD_FAILED, one sentence, when the files do not make a tokenizer. */
export function loadModel(name: string, files: ModelFiles): LoadedModel {
  const tokenizer = new TextTokenizer(files);
  const { vocabulary } = tokenizer;
  const template = createChatTemplate(files);
  const family = chooseFimFamily(files, vocabulary);
  return {
    name,
    tokenizer,
    chat: template && createChatRenderer(template, tokenizer),
    chatTemplateHash: template?.hash ?? '',
    infill: family && createInfillRenderer(family, tokenizer),
    infillPromptTokens: infillAdvice(files),
    outputFormat: chooseOutputFormat(files, template),
    eosTokenIds: eosTokenIds(files, vocabulary),
    samplingDefaults: samplingDefaults(files),
    contextLength: contextLengthOf(files),
  };
}
