// Tokens with a role, as the configuration files name them: BOS in front of a text, EOS at its end.
import type { JsonObject, ModelFiles, TokenizerJson } from './model-files.ts';
import type { Vocabulary } from './vocabulary.ts';

type Item = { SpecialToken?: { id: string }; Sequence?: { id: string } };
type Named = { type: string; [key: string]: unknown };

/** A token of tokenizer_config.json: a string, or an object with its content. */
export function tokenText(value: unknown): string | null {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : null;
}

function idOfText(value: unknown, vocabulary: Vocabulary): number | null {
  const text = tokenText(value);
  return text === null ? null : (vocabulary.idOf.get(text) ?? null);
}

function postProcessors(tokenizer: TokenizerJson): Named[] {
  const post = tokenizer.post_processor;
  if (post === null) return [];
  return post.type === 'Sequence' ? ((post.processors ?? []) as Named[]) : [post];
}

/** Ids in front of the first sequence in the post-processor, or BOS where only the configuration asks for it. */
export function leadingIds({ tokenizer, tokenizerConfig }: ModelFiles, vocabulary: Vocabulary): number[] {
  const ids: number[] = [];
  for (const part of postProcessors(tokenizer)) {
    if (part.type === 'BertProcessing' || part.type === 'RobertaProcessing')
      ids.push((part.cls as [string, number])[1]);
    if (part.type !== 'TemplateProcessing') continue;
    for (const item of (part.single ?? []) as Item[]) {
      if (!item.SpecialToken) break;
      const id = vocabulary.idOf.get(item.SpecialToken.id);
      if (id !== undefined) ids.push(id);
    }
  }
  if (ids.length > 0 || tokenizerConfig.add_bos_token !== true) return ids;
  const bos = idOfText(tokenizerConfig.bos_token, vocabulary);
  return bos === null ? [] : [bos];
}

function idsOf(value: unknown): number[] {
  const list = Array.isArray(value) ? value : [value];
  return list.filter((id): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0);
}

/** EOS of the tokenizer and of the generation configuration (config.json where there is none), each once, rising. */
export function eosTokenIds(files: ModelFiles, vocabulary: Vocabulary): number[] {
  const generation: JsonObject = 'eos_token_id' in files.generationConfig ? files.generationConfig : files.modelConfig;
  const own = idOfText(files.tokenizerConfig.eos_token, vocabulary);
  const ids = new Set([...(own === null ? [] : [own]), ...idsOf(generation.eos_token_id)]);
  return [...ids].filter((id) => id < vocabulary.size).sort((a, b) => a - b);
}
