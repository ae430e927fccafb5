/** Bench requests over the public gRPC API, streamed. */
import { InfillMode, type RequestEnd } from '#gen/quern/gateway/v1/gateway.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { GatewayClient } from '../gateway-client.ts';
import type { BenchRequest } from './scenarios.ts';
import type { Transport } from './transport.ts';

/** A transport over an open gateway channel; the caller closes the channel. */
export function grpcTransport(gateway: GatewayClient, model: string): Transport {
  return {
    name: `grpc ${gateway.address}`,
    async send(bench, onText, signal) {
      let text = '';
      let end: RequestEnd | undefined;
      for await (const { event } of stream(gateway, model, bench, signal)) {
        if (event?.$case === 'delta') {
          if (event.value.text !== '') onText();
          text += event.value.text;
        } else if (event?.$case === 'end') end = 'family' in event.value ? event.value.end : event.value;
      }
      return {
        text,
        promptTokens: end?.usage?.promptTokens ?? 0,
        cachedTokens: end?.usage?.cachedTokens ?? 0,
        outputTokens: end?.usage?.completionTokens ?? 0,
      };
    },
    close: () => undefined,
  };
}

function stream(gateway: GatewayClient, model: string, bench: BenchRequest, signal: AbortSignal) {
  const sampling = {
    maxTokens: bench.maxTokens,
    temperature: 0,
    ignoreEos: true,
    logitBias: new Map<number, number>(),
    stopTokenIds: [],
  };
  const common = { model, sampling, stop: [], options: undefined };
  switch (bench.kind) {
    case 'complete':
      return gateway.streamComplete(
        { request: { ...common, prompt: { $case: 'text', value: bench.prompt }, echo: false } },
        { signal },
      );
    case 'infill':
      return gateway.infill(
        {
          ...common,
          prefix: bench.prefix,
          suffix: bench.suffix,
          path: '',
          repository: '',
          chunks: [],
          mode: InfillMode.INFILL_MODE_UNBOUNDED,
        },
        { signal },
      );
    case 'chat': {
      const messages = bench.messages.map(({ role, content }) => ({
        role: role === 'user' ? Role.ROLE_USER : Role.ROLE_ASSISTANT,
        content,
        reasoningContent: '',
        name: '',
        toolCalls: [],
        toolCallId: '',
      }));
      return gateway.streamChat(
        { request: { ...common, messages, tools: [], templateVariables: undefined } },
        { signal },
      );
    }
  }
}
