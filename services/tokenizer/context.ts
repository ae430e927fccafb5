// What all RPCs share, built once by service.ts.
import type { LoadedModel } from './loaded-model.ts';
import type { Models } from './models.ts';

export type TokenizerContext = {
  readonly models: Models;
  /** Throws INVALID_ARGUMENT when the texts of one request are too long for this model. */
  checkTexts(model: LoadedModel, field: string, texts: Iterable<string>): void;
  /** Tokens an infill prompt may have when the request does not say; null = no bound. */
  contextLength(model: LoadedModel): number | null;
  /** Counts tokens that an RPC made. */
  countTokens(rpc: string, tokens: number): void;
};
