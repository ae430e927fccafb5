// An engine's refusal or failure in the caller's words: the engine names fields of GenerationRequest, which no client has seen.
import type { Status } from '#gen/google/rpc/status.ts';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { QuernError } from '#kit/errors.ts';
import { fromStatusProto } from '#kit/rpc/status.ts';

const PATH = /(?<![\w.])request\.(?=[a-z_])(sampling\.|token_ids\b)?/g;

/**
 * The status of a Finished as an error. `samplingPrefix` is where sampling stands in the caller's message ("sampling."
 * in gRPC, "" in HTTP): request.sampling.top_p becomes that and top_p, request.token_ids[3] becomes prompt[3].
 */
export function engineRefusal(status: Status, samplingPrefix: string): QuernError {
  const error = fromStatusProto(status);
  const inCallersWords = (text: string): string =>
    text.replace(PATH, (_path, part?: string) => {
      if (part === 'sampling.') return samplingPrefix;
      return part === 'token_ids' ? 'prompt' : '';
    });
  const { fields } = error.details;
  const renamed = fields?.map(({ field, description }) => ({
    field: inCallersWords(field),
    description: inCallersWords(description),
  }));
  return new QuernError(error.code, inCallersWords(error.message), {
    ...error.details,
    ...(renamed && { fields: renamed }),
  });
}

/** An engine takes no more, or could not be in time: refused for load, as admission does it here. */
export function isLoadRefusal({ code, details }: QuernError): boolean {
  return code === 'RESOURCE_EXHAUSTED' && details.reason !== 'SLOW_READER';
}

/** What fails the whole request when a choice ends so; null: an end like any other. */
export function failureOf(reason: FinishReason): QuernError | null {
  if (reason === FinishReason.FINISH_REASON_DEADLINE) {
    return new QuernError('DEADLINE_EXCEEDED', "the request's time limit passed on the engine");
  }
  if (reason !== FinishReason.FINISH_REASON_ERROR) return null;
  return new QuernError('INTERNAL', 'the engine failed on this request; its log has the cause under the request id');
}

/** What a client hears whose request met so many engines that went away. */
export function engineLost(times: number, cause: QuernError): QuernError {
  const message = `the engine was lost ${times} times during this request; try again`;
  return new QuernError('UNAVAILABLE', message, { reason: 'ENGINE_LOST', retryAfterMs: 1_000 }, { cause });
}
