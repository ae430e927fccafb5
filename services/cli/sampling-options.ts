/** Sampling options that complete, infill and chat share. */
import type { SamplingParams } from '#gen/quern/common/v1/common.ts';
import { decimal, wholeNumber } from './options.ts';

export const SAMPLING_OPTIONS = {
  model: { type: 'string' },
  'max-tokens': { type: 'string' },
  temperature: { type: 'string' },
  'top-p': { type: 'string' },
  seed: { type: 'string' },
  stop: { type: 'string', multiple: true },
} as const;

/** maxTokens null: what fits. */
type Defaults = { maxTokens: number | null; temperature?: number };

/** The part of a command's help that is about these and about the mesh to call. */
export function samplingHelp({ maxTokens, temperature }: Defaults): string {
  return `  --model NAME       which model; needed only when several are served
  --max-tokens N     tokens to generate (default ${maxTokens ?? 'what fits'})
  --temperature T    0..2; 0 = always the likeliest token (default ${temperature ?? "the model's, else 1"})
  --top-p P          nucleus sampling, 0..1
  --seed N           the same seed gives the same text
  --stop TEXT        stop string, up to 4 times
  --gateway ADDR     the mesh's gRPC address, https://HOST:PORT for TLS (default: QUERN_GATEWAY, else that of
                     the running mesh of this state folder, else 127.0.0.1:50051)
  --ca FILE          CAs of a mesh that speaks TLS (default: QUERN_GATEWAY_CA_FILE)
  --api-key KEY      (default: QUERN_API_KEY)`;
}

type Values = {
  'max-tokens'?: string | undefined;
  temperature?: string | undefined;
  'top-p'?: string | undefined;
  seed?: string | undefined;
};

/** The typed sampling settings; only what was given is present. */
export function samplingFrom(values: Values, defaults: Defaults): SamplingParams {
  const temperature = decimal('temperature', values.temperature, 0, 2) ?? defaults.temperature;
  const topP = decimal('top-p', values['top-p'], 0, 1);
  const seed =
    values.seed === undefined ? undefined : BigInt(wholeNumber('seed', values.seed, 0, 0, Number.MAX_SAFE_INTEGER));
  return {
    maxTokens:
      values['max-tokens'] === undefined && defaults.maxTokens === null
        ? undefined
        : wholeNumber('max-tokens', values['max-tokens'], defaults.maxTokens ?? 0, 0, 1_000_000),
    temperature,
    topP,
    seed,
    logitBias: new Map(),
    stopTokenIds: [],
  };
}
