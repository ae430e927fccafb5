/** Bench requests over the OpenAI-style HTTP API, streamed. */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { ClientTls } from '#kit/rpc/client.ts';
import type { BenchRequest } from './scenarios.ts';
import type { Transport } from './transport.ts';

export type HttpTarget = { address: string; tls: ClientTls | undefined };

/** A transport over http://ADDRESS, or https. */
export function httpTransport(to: HttpTarget, apiKey: string | undefined, model: string): Transport {
  return {
    name: `${to.tls === undefined ? 'http' : 'https'} ${to.address}`,
    async send(bench, onText, signal) {
      const { path, body } = openAiRequest(bench, model);
      let text = '';
      let usage:
        | { prompt_tokens: number; completion_tokens: number; prompt_tokens_details?: { cached_tokens?: number } }
        | undefined;
      for await (const data of events(to, path, body, apiKey, signal)) {
        const chunk = JSON.parse(data) as Chunk;
        if (chunk.error) throw new Error(chunk.error.message);
        const piece = chunk.choices?.[0]?.text ?? chunk.choices?.[0]?.delta?.content ?? '';
        if (piece !== '') onText();
        text += piece;
        usage = chunk.usage ?? usage;
      }
      return {
        text,
        promptTokens: usage?.prompt_tokens ?? 0,
        cachedTokens: usage?.prompt_tokens_details?.cached_tokens ?? 0,
        outputTokens: usage?.completion_tokens ?? 0,
      };
    },
    close: () => undefined,
  };
}

type Chunk = {
  choices?: { text?: string; delta?: { content?: string } }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message: string };
};

function openAiRequest(bench: BenchRequest, model: string): { path: string; body: object } {
  const common = {
    model,
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0,
    max_tokens: bench.maxTokens,
    ignore_eos: true,
  };
  switch (bench.kind) {
    case 'complete':
      return { path: '/v1/completions', body: { ...common, prompt: bench.prompt } };
    case 'infill':
      return { path: '/v1/completions', body: { ...common, prompt: bench.prefix, suffix: bench.suffix } };
    case 'chat':
      return { path: '/v1/chat/completions', body: { ...common, messages: bench.messages } };
  }
}

async function* events(
  { address, tls }: HttpTarget,
  path: string,
  body: object,
  apiKey: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const headers = {
    'content-type': 'application/json',
    ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
  };
  const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    const url = `${tls === undefined ? 'http' : 'https'}://${address}${path}`;
    const options = { method: 'POST', headers, signal, ...tls };
    const call = tls === undefined ? httpRequest(url, options, resolve) : httpsRequest(url, options, resolve);
    call.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'ECONNREFUSED'
          ? new Error(`nothing answers at ${url.slice(0, -path.length)}; name it with --http`)
          : error,
      ),
    );
    call.end(JSON.stringify(body));
  });
  let rest = '';
  response.setEncoding('utf8');
  for await (const piece of response) {
    rest += piece;
    if (response.statusCode !== 200) continue;
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const data = rest.slice(0, end).replace(/^data: /, '');
      rest = rest.slice(end + 2);
      if (data !== '[DONE]') yield data;
    }
  }
  if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}: ${rest.slice(0, 300)}`);
}
