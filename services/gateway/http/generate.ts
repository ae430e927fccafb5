// POST /generate {prompt, max_length}: the shortest way to a completion, for scripts.
import { z } from 'zod';
import { ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { GENERATE_TOKENS_DEFAULT } from '../limits.ts';
import { callerOf, type Handler, sendJson } from './exchange.ts';
import { finishReasonText, usageObject } from './openai-objects.ts';
import { count, samplingOf, sharedFields, sharedRequest } from './sampling-schema.ts';
import { readFields } from './unknown-fields.ts';

const schema = z.looseObject({ ...sharedFields, prompt: z.string(), max_length: count(0xffffffff, 1).nullish() });

/** max_length counts new tokens. Further fields as in /v1/completions. */
export function generate(context: GatewayContext): Handler {
  return async (exchange) => {
    const body = readFields(schema, exchange);
    const prompt = {
      kind: 'text' as const,
      text: body.prompt,
      parseSpecial: ParseSpecial.PARSE_SPECIAL_ALL,
      addBos: true,
    };
    const sampling = { ...samplingOf(body), maxTokens: body.max_length ?? GENERATE_TOKENS_DEFAULT, n: 1 };
    const request = { ...sharedRequest(body, exchange), method: 'complete' as const, prompt, sampling, echo: false };
    const { choices, end } = await collect(context, request, callerOf(exchange));
    const [choice] = choices;
    const finish_reason = choice ? finishReasonText(choice.finishReason) : null;
    sendJson(
      exchange.response,
      { text: choice?.text ?? '', finish_reason, usage: usageObject([end.usage]) },
      { 'x-request-id': end.requestId },
    );
  };
}
