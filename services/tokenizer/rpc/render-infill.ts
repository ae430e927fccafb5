// RenderInfill: prefix, suffix and context to the FIM prompt of the model's family.
import type { RenderInfillRequest, RenderInfillResponse } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import type { TokenizerContext } from '../context.ts';
import { CHUNKS_MAX, PATH_CHARS_MAX } from '../limits.ts';

function invalid(field: string, description: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, {
    reason: 'FIELD_INVALID',
    fields: [{ field, description }],
  });
}

function checkRequest(request: RenderInfillRequest): void {
  const { chunks, path, repository } = request;
  if (chunks.length > CHUNKS_MAX)
    throw invalid('chunks', `expected at most ${CHUNKS_MAX}, got ${chunks.length}; send fewer`);
  const names: [string, string][] = [
    ['path', path],
    ['repository', repository],
    ...chunks.map((chunk, index): [string, string] => [`chunks[${index}].path`, chunk.path]),
  ];
  for (const [field, name] of names) {
    if (name.length > PATH_CHARS_MAX) {
      throw invalid(field, `expected at most ${PATH_CHARS_MAX} characters, got ${name.length}; shorten it`);
    }
  }
}

export function renderInfill(context: TokenizerContext, request: RenderInfillRequest): RenderInfillResponse {
  const model = context.models.get(request.model);
  if (!model.infill) {
    const reason = 'its vocabulary has no FIM tokens of a known family';
    const cure = 'use a base code model, or name its fim_family in quern.json';
    const message = `model "${model.name}" cannot fill in the middle: ${reason}; ${cure}`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'FIM_UNSUPPORTED' });
  }
  const { prefix, suffix, chunks, path, repository } = request;
  checkRequest(request);
  context.checkTexts(model, 'prefix', [prefix, suffix, ...chunks.map(({ text }) => text)]);
  const { family, stopTokenIds } = model.infill;
  const prompt = model.infill.render({
    prefix,
    suffix,
    path,
    repository,
    chunks,
    maxPromptTokens: request.maxPromptTokens ?? context.contextLength(model),
  });
  context.countTokens('RenderInfill', prompt.ids.length);
  return {
    tokenIds: [...prompt.ids],
    stopTokenIds: [...stopTokenIds],
    stopStrings: [...family.stopStrings],
    family: family.name,
    droppedPrefixTokens: prompt.droppedPrefixTokens,
    droppedSuffixTokens: prompt.droppedSuffixTokens,
    droppedChunks: prompt.droppedChunks,
  };
}
