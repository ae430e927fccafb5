// What a prefix cache that forgets nothing would have of the prompts that a model's own tokenizer makes of queries. The same in every
// run, unlike what an engine has: there a cancelled prompt is not read to its end.
import { createHash } from 'node:crypto';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { InfillQuery } from '../../../clients/lsp/core/infill-source.ts';
import type { InfillRenderer } from '../../../services/tokenizer/infill-prompt.ts';
import { loadModel } from '../../../services/tokenizer/loaded-model.ts';
import { readModelFiles } from '../../../services/tokenizer/model-files.ts';

/** Of the engine's cache, in tokens. */
const BLOCK = 16;

const KINDS = {
  declaration: ChunkKind.CHUNK_KIND_DECLARATION,
  open_file: ChunkKind.CHUNK_KIND_OPEN_FILE,
  recent: ChunkKind.CHUNK_KIND_RECENT,
} as const;

export type PromptModel = { infill: InfillRenderer; contextLength: number; promptTokens: number | null };

export async function openPromptModel(dir: string): Promise<PromptModel> {
  const { infill, contextLength, infillPromptTokens } = loadModel('replayed', await readModelFiles(dir));
  if (!infill || !contextLength) throw new Error(`${dir}: expected a model that can fill in, with its context length`);
  return { infill, contextLength, promptTokens: infillPromptTokens };
}

export type Prompted = Pick<InfillQuery, 'prefix' | 'suffix' | 'path' | 'repository' | 'chunks' | 'maxTokens'>;

/** Of one typist, before whom it is empty. */
export class PromptCache {
  tokens = 0;
  cached = 0;
  readonly #model: PromptModel;
  readonly #blocks = new Set<string>();

  constructor(model: PromptModel) {
    this.#model = model;
  }

  take(query: Prompted): void {
    const { infill, contextLength, promptTokens } = this.#model;
    const { prefix, suffix, path, repository, maxTokens } = query;
    const chunks = query.chunks.map(({ kind, ...chunk }) => ({ ...chunk, kind: kind && KINDS[kind] }));
    const maxPromptTokens = Math.min(contextLength - maxTokens, promptTokens ?? contextLength);
    const { ids } = infill.render({ prefix, suffix, path, repository, chunks, maxPromptTokens });
    this.tokens += ids.length;
    this.cached += Math.min(this.#known(ids), ids.length - 1); // the last token is computed in any case
  }

  /** Tokens from the beginning on whose blocks were there; all of them are from now on. */
  #known(ids: Uint32Array): number {
    let known = 0;
    let chain = '';
    for (let at = 0; at + BLOCK <= ids.length; at += BLOCK) {
      chain = createHash('sha1')
        .update(chain)
        .update(ids.slice(at, at + BLOCK))
        .digest('base64');
      if (known === at && this.#blocks.has(chain)) known = at + BLOCK;
      this.#blocks.add(chain);
    }
    return known;
  }
}
