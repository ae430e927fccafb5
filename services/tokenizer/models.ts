// The loaded models by name.
import { QuernError } from '#kit/errors.ts';
import type { LoadedModel } from './loaded-model.ts';

export type Models = {
  readonly all: readonly LoadedModel[];
  /** "" means the only one. Throws NOT_FOUND for a name that is not loaded. */
  get(name: string): LoadedModel;
};

export function createModels(all: readonly LoadedModel[]): Models {
  const byName = new Map(all.map((model) => [model.name, model]));
  return {
    all,
    get(name) {
      const model = name === '' && all.length === 1 ? all[0] : byName.get(name);
      if (model) return model;
      const known = all.map((one) => `"${one.name}"`).join(', ');
      const got = name === '' ? 'none, which only works when one model is loaded' : JSON.stringify(name);
      throw new QuernError('NOT_FOUND', `model: expected one of ${known}, got ${got}; name a loaded model`, {
        reason: 'MODEL_NOT_FOUND',
        metadata: { model: name },
      });
    },
  };
}
