// The files of a Hugging Face model folder that describe text: read, bounded and checked, nothing interpreted yet.
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { MODEL_FILE_BYTES_MAX } from './limits.ts';
import type { PreTokenizerConfig } from './pretokenizer.ts';

export type AddedTokenConfig = {
  id: number;
  content: string;
  lstrip?: boolean;
  rstrip?: boolean;
  single_word?: boolean;
  normalized?: boolean;
  special?: boolean;
};

export type ModelConfig = {
  type?: string;
  vocab: Record<string, number> | [string, number][];
  merges?: (string | [string, string])[];
  unk_token?: string | null;
  [key: string]: unknown;
};

/** tokenizer.json */
export type TokenizerJson = {
  added_tokens: AddedTokenConfig[];
  normalizer: { type: string; [key: string]: unknown } | null;
  pre_tokenizer: PreTokenizerConfig | null;
  post_processor: { type: string; [key: string]: unknown } | null;
  decoder: { type: string; [key: string]: unknown } | null;
  model: ModelConfig;
  [key: string]: unknown;
};

/** tokenizer_config.json, generation_config.json, config.json, quern.json: whatever they hold. */
export type JsonObject = { [key: string]: unknown };

export type ModelFiles = {
  dir: string;
  tokenizer: TokenizerJson;
  tokenizerConfig: JsonObject;
  generationConfig: JsonObject;
  modelConfig: JsonObject;
  /** quern.json beside the model: choices that win over what the files suggest. */
  quern: JsonObject;
  /** The file that quern.json names as chat_template, or chat_template.jinja, when there is one. */
  chatTemplate: string | null;
};

function loadError(message: string, cause?: unknown): QuernError {
  return new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' }, { cause });
}

async function readText(path: string, signal: AbortSignal | undefined): Promise<string | null> {
  const info = await stat(path).catch(() => null);
  if (!info?.isFile()) return null;
  if (info.size > MODEL_FILE_BYTES_MAX) {
    throw loadError(`${path}: expected at most ${MODEL_FILE_BYTES_MAX} bytes, got ${info.size}; is it the right file?`);
  }
  return readFile(path, { encoding: 'utf8', ...(signal && { signal }) }).catch((cause) => {
    throw loadError(`${path}: cannot be read (${(cause as Error).message}); check its permissions`, cause);
  });
}

async function readObject(path: string, signal: AbortSignal | undefined): Promise<JsonObject | null> {
  const text = await readText(path, signal);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw loadError(
      `${path}: expected JSON, got text that does not parse (${(cause as Error).message}); get the file again`,
      cause,
    );
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw loadError(
    `${path}: expected a JSON object, got ${Array.isArray(value) ? 'a list' : typeof value}; get the file again`,
  );
}

function checkTokenizer(path: string, value: JsonObject): TokenizerJson {
  const model = value.model as ModelConfig | undefined;
  if (typeof model !== 'object' || model === null || typeof model.vocab !== 'object' || model.vocab === null) {
    throw loadError(
      `${path}: expected "model" with "vocab", got none; save it with the tokenizers library (fast tokenizer)`,
    );
  }
  const added = value.added_tokens ?? [];
  const isAdded = (token: unknown): boolean => {
    const { id, content } = (token ?? {}) as Partial<AddedTokenConfig>;
    return Number.isInteger(id) && typeof content === 'string' && content.length > 0;
  };
  if (!Array.isArray(added) || !added.every(isAdded)) {
    throw loadError(
      `${path}: expected "added_tokens" to be a list of {id, content}, got something else; get the file again`,
    );
  }
  return {
    ...value,
    added_tokens: added as AddedTokenConfig[],
    normalizer: (value.normalizer ?? null) as TokenizerJson['normalizer'],
    pre_tokenizer: (value.pre_tokenizer ?? null) as TokenizerJson['pre_tokenizer'],
    post_processor: (value.post_processor ?? null) as TokenizerJson['post_processor'],
    decoder: (value.decoder ?? null) as TokenizerJson['decoder'],
    model,
  };
}

/** The file of the chat template: quern.json may name another one beside it. */
function templateName(dir: string, { chat_template: named }: JsonObject): string {
  if (named === undefined || named === null) return 'chat_template.jinja';
  if (typeof named === 'string' && /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(named)) return named;
  throw loadError(
    `${dir}/quern.json: expected chat_template to be the name of a file beside it, got something else; correct it`,
  );
}

/** Reads the folder, or its tokenizer/ subfolder for what the folder itself lacks. Throws MODEL_LOAD_FAILED, one sentence. */
export async function readModelFiles(dir: string, options: { signal?: AbortSignal } = {}): Promise<ModelFiles> {
  const { signal } = options;
  const info = await stat(dir).catch(() => null);
  if (!info) throw loadError(`expected a model folder at ${dir}, but there is none; correct the path`);
  if (!info.isDirectory())
    throw loadError(`expected a model folder at ${dir}, but it is a file; name the folder that holds it`);
  const folders = [dir, join(dir, 'tokenizer')];
  async function first<T>(name: string, read: (path: string, signal: AbortSignal | undefined) => Promise<T | null>) {
    for (const folder of folders) {
      const found = await read(join(folder, name), signal);
      if (found !== null) return { path: join(folder, name), value: found };
    }
    return null;
  }
  const tokenizer = await first('tokenizer.json', readObject);
  if (!tokenizer) {
    throw loadError(
      `expected tokenizer.json in ${dir} or its tokenizer/ folder, but there is none; save the model's fast tokenizer there`,
    );
  }
  const object = async (name: string): Promise<JsonObject> => (await first(name, readObject))?.value ?? {};
  const quern = await object('quern.json');
  return {
    dir,
    tokenizer: checkTokenizer(tokenizer.path, tokenizer.value),
    tokenizerConfig: await object('tokenizer_config.json'),
    generationConfig: await object('generation_config.json'),
    modelConfig: await object('config.json'),
    quern,
    chatTemplate: (await first(templateName(dir, quern), readText))?.value ?? null,
  };
}
