import type { GatewayContext } from '../context.ts';
import type { ServedModel } from '../models.ts';
import { describeModel } from '../served-model.ts';
import type { Handler } from './exchange.ts';
import { sendJson } from './exchange.ts';

const startedUnixS = Math.floor(Date.now() / 1000);

function modelObject(context: GatewayContext, model: ServedModel) {
  const { name, contextLength, ready, fimFamily, chat, toolParser, reasoningParser } = describeModel(context, model);
  return {
    id: name,
    object: 'model',
    created: startedUnixS,
    owned_by: 'quern',
    root: name,
    parent: null,
    max_model_len: contextLength,
    quern: { ready, fim_family: fimFamily, chat, tool_parser: toolParser, reasoning_parser: reasoningParser },
  };
}

/** GET /v1/models */
export function listModels(context: GatewayContext): Handler {
  return ({ response }) => {
    const data = context.models.all().map((model) => modelObject(context, model));
    sendJson(response, { object: 'list', data });
  };
}

/** GET /v1/models/{id} */
export function getModel(context: GatewayContext): Handler {
  return ({ response, parameter }) => sendJson(response, modelObject(context, context.models.resolve(parameter)));
}
