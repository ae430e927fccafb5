// POST /detokenize in vLLM's shape.
import { z } from 'zod';
import type { GatewayContext } from '../context.ts';
import { type Handler, sendJson } from './exchange.ts';
import { tokenId } from './sampling-schema.ts';
import { readFields } from './unknown-fields.ts';

const schema = z.looseObject({ model: z.string().nullish(), tokens: z.array(tokenId) });

export function detokenize(context: GatewayContext): Handler {
  return async (exchange) => {
    const { response, signal, trace } = exchange;
    const { model: name, tokens } = readFields(schema, exchange);
    const model = context.models.resolve(name ?? '');
    sendJson(response, { prompt: await context.tokenizer.decode(model.name, tokens, { signal, trace }) });
  };
}
