/** What GET /v1/models says of a mesh. One from before `quern.infill` says less, and what it leaves out has a default. */
import type { Capabilities } from '../../lsp/core/capabilities.ts';
import { type InfillEnding, InfillFailure } from '../../lsp/core/infill-source.ts';
import { newTraceId } from '../../lsp/core/trace-id.ts';
import { type Call, interrupted, withTimeout } from './http-call.ts';

/** As they came; null: the model cannot fill in. */
type InfillObject = { chunks_max?: number; modes?: readonly string[]; prompt_tokens?: number } | null;
type QuernObject = {
  ready?: boolean;
  fim_family?: string;
  tokenizer_hash?: string;
  model_hash?: string;
  infill?: InfillObject;
};
export type ModelObject = { id?: string; max_model_len?: number; quern?: QuernObject };

/** Other files that POST /infill takes where the mesh does not say. */
const CHUNKS_MAX = 256;

const ENDINGS: readonly InfillEnding[] = ['single_line', 'multi_line', 'auto'];

/** Throws InfillFailure. */
export async function listModels(call: Call, signal: AbortSignal): Promise<readonly ModelObject[]> {
  const response = await call('/v1/models', newTraceId(), null, withTimeout(signal));
  const body: unknown = await response.json().catch((cause: unknown) => {
    if (!(cause instanceof SyntaxError)) throw interrupted(signal, cause);
    throw new InfillFailure('failed', 'expected a list of models, got no JSON: is this address a mesh?', { cause });
  });
  const { data } = (body ?? {}) as { data?: ModelObject[] };
  return Array.isArray(data) ? data : [];
}

/** Whether the mesh takes what gRPC's Infill and ReportEvents have: it does from when on it says what it can do. */
export function saysAbilities(models: readonly ModelObject[]): boolean {
  return models.some(({ quern }) => quern?.infill !== undefined);
}

/** "" is the only model. Throws InfillFailure for one that is not served. */
export function capabilitiesOf(models: readonly ModelObject[], name: string): Capabilities {
  const found = models.find(({ id }) => id === name) ?? (name === '' && models.length === 1 ? models[0] : undefined);
  if (!found) throw new InfillFailure('failed', notServed(models, name));
  const { ready = false, fim_family: fimFamily = '', tokenizer_hash: hash, infill } = found.quern ?? {};
  const { id: model = '', max_model_len: contextLength = 0, quern: { model_hash: modelHash = '' } = {} } = found;
  return {
    model,
    infill: infill === undefined ? fimFamily !== '' : infill !== null,
    fimFamily,
    // Where the vocabulary's hash is not told: a model that is ready has one, and is known by its name instead.
    tokenizerHash: hash ?? (ready ? `http:${model}` : ''),
    chunksMax: infill?.chunks_max ?? CHUNKS_MAX,
    endings: ENDINGS.filter((ending) => infill?.modes?.includes(ending)),
    contextLength,
    infillPromptTokens: infill?.prompt_tokens ?? 0,
    modelHash,
    ready,
  };
}

function notServed(models: readonly ModelObject[], name: string): string {
  const served = models.map(({ id }) => id).join(', ') || 'none';
  return `expected a served model (${served}), got "${name}"; set the setting model to one of them`;
}
