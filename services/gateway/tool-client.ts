// The tool service as agent runs use it. A call whose stream breaks is taken up again: by its id while the service knows it, by
// its idempotency key after the service was started anew, so that nothing runs twice.
import { setTimeout as sleep } from 'node:timers/promises';
import { type ExecuteRequest, type ExecuteResponse, ToolServiceClient } from '#gen/quern/tools/v1/tools.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { type ClientTls, openChannel, type StreamCallOptions, serverStream, unary } from '#kit/rpc/client.ts';
import type { SpanSink } from '#kit/trace.ts';
import {
  TOOL_DEADLINE_SLACK_MS,
  TOOL_RECONNECT_MS,
  TOOL_RECONNECTS_MAX,
  TOOL_UNARY_TIMEOUT_MS,
} from './agent/limits.ts';
import type { SeamOptions, ToolService } from './agent/seams.ts';
import { TOOLS_LOOK_TIMEOUT_MS } from './limits.ts';

export type ToolClientOptions = {
  address: string;
  sharedToken?: string | undefined;
  tls?: ClientTls | undefined;
  spans?: SpanSink | undefined;
};

/** grpc-js's own words for a connection that broke, some of them under a code of their own. */
const BROKEN = /RST_STREAM|ECONNRESET|EPIPE|socket hang up/;
/** grpc-js's own words for a deadline that it kept. */
const NO_ANSWER = /^Deadline exceeded after/;

/** The connection is gone; what the service itself refuses with UNAVAILABLE has a reason. */
function isBroken({ code, message, details }: QuernError): boolean {
  return details.reason === code && (code === 'UNAVAILABLE' || (code === 'INTERNAL' && BROKEN.test(message)));
}

/**
 * What a caller hears: never gRPC's own words, and not the service's address, which is ours. Of what the service says itself
 * everything passes. `isCall`: the deadline was that of a tool's call.
 */
export function toolError(thrown: unknown, { isCall = false } = {}): QuernError {
  const error = toQuernError(thrown);
  const details = { reason: 'TOOLS_UNAVAILABLE', retryAfterMs: 1_000 };
  const options = { cause: error };
  if (isBroken(error)) {
    const message = 'the tool service does not answer now; try again, and look at its log if it stays so';
    return new QuernError('UNAVAILABLE', message, details, options);
  }
  if (error.code !== 'DEADLINE_EXCEEDED' || !NO_ANSWER.test(error.message)) return error;
  if (isCall) {
    const message = 'the tool service did not say in time how the call ended; look at its log';
    return new QuernError('DEADLINE_EXCEEDED', message, { reason: 'TOOL_CALL_SILENT' }, options);
  }
  const message = `the tool service did not answer within ${TOOL_UNARY_TIMEOUT_MS / 1000} s; try again, and look at its log if it stays so`;
  return new QuernError('UNAVAILABLE', message, details, options);
}

export type ToolClient = ToolService & {
  /** Of its sandbox; "" = none. Throws when it does not answer. */
  tier(options: { signal: AbortSignal }): Promise<string>;
  close(): void;
};

/** Metadata of Execute: for a tool that starts runs itself. */
export const NESTED_CONTEXT_METADATA = 'x-quern-nested-context';

type ExecuteOptions = Parameters<ToolService['execute']>[1];
type How = 'execute' | 'attach';

/** How to go on after a call's stream broke; null: it is over. */
export function nextAttempt(how: How, thrown: unknown): How | null {
  const error = toQuernError(thrown);
  const { code, details } = error;
  if (code === 'UNAVAILABLE' || isBroken(error)) return 'attach';
  if (how === 'execute' && code === 'ALREADY_EXISTS' && details.reason === 'TOOL_CALL_EXISTS') return 'attach';
  if (how === 'attach' && code === 'NOT_FOUND') return 'execute';
  return null;
}

function streamOptions(request: ExecuteRequest, { signal, trace, nestedContext }: ExecuteOptions): StreamCallOptions {
  return {
    signal,
    trace,
    requestId: request.caller?.requestId,
    timeoutMs: request.timeoutMs + TOOL_DEADLINE_SLACK_MS,
    ...(nestedContext !== '' && { metadata: { [NESTED_CONTEXT_METADATA]: nestedContext } }),
  };
}

/** Opens the channel; it connects at the first call. */
export function createToolClient({ address, sharedToken, tls, spans }: ToolClientOptions): ToolClient {
  const client = openChannel(ToolServiceClient, { address, sharedToken, tls, spans });
  const short = (options: SeamOptions) => ({ ...options, timeoutMs: TOOL_UNARY_TIMEOUT_MS });

  async function* attach(
    request: ExecuteRequest,
    after: bigint,
    options: ExecuteOptions,
  ): AsyncGenerator<ExecuteResponse> {
    const { caller, callId } = request;
    const asked = { caller, callId, afterSequence: after };
    for await (const { event } of serverStream(client, 'attach', asked, streamOptions(request, options))) {
      if (event) yield event;
    }
  }

  async function* execute(request: ExecuteRequest, options: ExecuteOptions): AsyncGenerator<ExecuteResponse> {
    let how: How = 'execute';
    let last = 0n;
    for (let broken = 0; ; broken += 1) {
      try {
        const events =
          how === 'execute'
            ? serverStream(client, 'execute', request, streamOptions(request, options))
            : attach(request, last, options);
        for await (const event of events) {
          last = event.sequence;
          yield event;
        }
        return;
      } catch (thrown) {
        const next: How | null =
          options.signal.aborted || broken >= TOOL_RECONNECTS_MAX ? null : nextAttempt(how, thrown);
        if (next === null) throw toolError(thrown, { isCall: true });
        how = next;
        if (how === 'execute') last = 0n;
        await sleep(TOOL_RECONNECT_MS * 2 ** broken, undefined, { signal: options.signal });
      }
    }
  }

  const failed = (thrown: unknown): never => {
    throw toolError(thrown);
  };
  return {
    async list(request, options) {
      const listed = await unary(client, 'listTools', request, short(options)).catch(failed);
      return listed.tools;
    },
    execute,
    async approve(request, options) {
      await unary(client, 'approve', request, short(options)).catch(failed);
    },
    async deny(request, options) {
      await unary(client, 'deny', request, short(options)).catch(failed);
    },
    async endSession(request, options) {
      return (await unary(client, 'endSession', request, short(options)).catch(failed)).removed;
    },
    async tier({ signal }) {
      const options = { signal, timeoutMs: TOOLS_LOOK_TIMEOUT_MS };
      return (await unary(client, 'getCapabilities', { probeNow: false }, options)).tier;
    },
    close: () => client.close(),
  };
}
