// The folder that is served: a model as it is, with its prompts in another order, or of a shape with random weights.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ROOT } from './sources.ts';

export type ServedModel = { dir: string; remove: () => void };

const MAKE_CHECKPOINT = join(ROOT, 'engine-native/build/make_checkpoint');
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json'];

/** Links to what lies in `modelDir`, less `without`. */
function link(modelDir: string, dir: string, wanted: (name: string) => boolean): void {
  for (const name of readdirSync(modelDir)) if (wanted(name)) symlinkSync(join(modelDir, name), join(dir, name));
}

/**
 * `order`: served, or psm for prefix, suffix, middle. `shape`: one of make_checkpoint's, or "" for the model's own weights; with a
 * shape only the tokenizer is the model's, and what it says means nothing.
 */
export function prepareModel(modelDir: string, { order, shape }: { order: string; shape: string }): ServedModel {
  if (order !== 'served' && order !== 'psm') throw new Error(`--order: expected served or psm, got ${order}`);
  const from = resolve(modelDir);
  if (order === 'served' && shape === '') return { dir: from, remove: () => {} };
  const dir = mkdtempSync(join(tmpdir(), 'quern-replay-model-'));
  const remove = (): void => rmSync(dir, { recursive: true, force: true });
  try {
    if (shape !== '') {
      if (!existsSync(MAKE_CHECKPOINT)) throw new Error(`expected ${MAKE_CHECKPOINT}; run npm run build:native`);
      execFileSync(MAKE_CHECKPOINT, [dir, '--shape', shape], { stdio: ['ignore', 'ignore', 'inherit'] });
    }
    link(from, dir, (name) => name !== 'quern.json' && (shape === '' || TOKENIZER_FILES.includes(name)));
    if (order === 'psm') writeFileSync(join(dir, 'quern.json'), JSON.stringify({ fim_family: 'qwen2.5-coder' }));
    else link(from, dir, (name) => name === 'quern.json');
    return { dir, remove };
  } catch (error) {
    remove();
    throw error;
  }
}
