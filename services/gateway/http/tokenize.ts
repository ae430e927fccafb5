// POST /tokenize in vLLM's shape: a prompt, or messages through the chat template.
import { z } from 'zod';
import { ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { GatewayContext } from '../context.ts';
import { renderPrompt } from '../prompt-rendering.ts';
import type { Prompt } from '../typed-request.ts';
import { validate } from './body.ts';
import { chatSchema, typedChat } from './chat-schema.ts';
import type { Exchange, Handler } from './exchange.ts';
import { sendJson } from './exchange.ts';
import { readFields } from './unknown-fields.ts';

const promptSchema = z.looseObject({
  model: z.string().nullish(),
  prompt: z.string(),
  add_special_tokens: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});
const strings = z.looseObject({ return_token_strs: z.boolean().nullish() });

function promptOf(exchange: Exchange): { model: string; prompt: Prompt } {
  const { body } = exchange;
  if (typeof body === 'object' && body !== null && 'messages' in body) {
    const request = typedChat(validate(chatSchema, body), exchange);
    return { model: request.model, prompt: request.prompt };
  }
  const { model, prompt, add_special_tokens } = readFields(promptSchema, exchange);
  const parseSpecial = ParseSpecial.PARSE_SPECIAL_ALL;
  return {
    model: model ?? '',
    prompt: { kind: 'text', text: prompt, parseSpecial, addBos: add_special_tokens ?? true },
  };
}

export function tokenize(context: GatewayContext): Handler {
  return async (exchange) => {
    const { model: name, prompt } = promptOf(exchange);
    const model = context.models.resolve(name);
    const vocabulary = context.models.vocabulary(model);
    const { principal, signal, trace } = exchange;
    const around = { model: model.name, principal, vocabulary };
    const { tokenIds } = await renderPrompt(context.tokenizer, prompt, around, { signal, trace });
    const wantStrings = validate(strings, exchange.body).return_token_strs ?? false;
    sendJson(exchange.response, {
      count: tokenIds.length,
      max_model_len: context.models.description(model)?.contextLength ?? 0,
      tokens: tokenIds,
      token_strs: wantStrings ? tokenIds.map((id) => vocabulary.literal(id)) : null,
    });
  };
}
