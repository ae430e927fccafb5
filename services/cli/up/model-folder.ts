/** What `quern up --model` accepts: a Hugging Face folder, checked before anything starts. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { QuernError } from '#kit/errors.ts';

export type ServedModel = { name: string; dir: string };

/** Parses `DIR` or `NAME=DIR` and checks that the folder holds a checkpoint; throws one sentence when it does not. */
export function parseModel(text: string, cwd: string): ServedModel {
  const equals = text.indexOf('=');
  const dir = resolve(cwd, equals < 0 ? text : text.slice(equals + 1));
  const name = equals < 0 ? basename(dir) : text.slice(0, equals);
  if (!/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/.test(name)) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `--model: expected NAME=DIR with a name of letters, digits and . _ : / -, got "${text}"`,
    );
  }
  const problem = folderProblem(dir);
  if (problem !== undefined) throw new QuernError('INVALID_ARGUMENT', `model ${name}: ${problem}`);
  return { name, dir };
}

/** All models of one mesh; names must differ. */
export function parseModels(texts: string[], cwd: string): ServedModel[] {
  const models = texts.map((text) => parseModel(text, cwd));
  const twice = models.find((model, index) => models.findIndex(({ name }) => name === model.name) !== index);
  if (twice !== undefined) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `two models are called "${twice.name}"; give them names: --model a=DIR --model b=DIR`,
    );
  }
  return models;
}

function folderProblem(dir: string): string | undefined {
  if (!existsSync(dir)) return `expected a Hugging Face model folder, but ${dir} does not exist`;
  if (!statSync(dir).isDirectory())
    return `expected a Hugging Face model folder, but ${dir} is a file; name the folder that holds it`;
  const files = readdirSync(dir);
  const missing: string[] = [];
  if (!files.includes('config.json')) missing.push('config.json');
  if (!files.some((file) => file.endsWith('.safetensors')))
    missing.push('*.safetensors (GGUF and .bin files are not read)');
  if (!files.includes('tokenizer.json') && !existsSync(join(dir, 'tokenizer', 'tokenizer.json')))
    missing.push('tokenizer.json');
  return missing.length === 0 ? undefined : `${dir} lacks ${missing.join(', ')}`;
}
