import type { GatewayContext } from '../context.ts';
import { INFILL_CHUNKS_MAX, INFILL_TOKENS_DEFAULT, STOP_STRINGS_INFILL_MAX } from '../limits.ts';
import type { ServedModel } from '../models.ts';
import { describeModel } from '../served-model.ts';
import type { Handler } from './exchange.ts';
import { sendJson } from './exchange.ts';
import { INFILL_MODES } from './infill-request.ts';

const startedUnixS = Math.floor(Date.now() / 1000);

/** What gRPC's GetCapabilities says; null for a model that cannot fill in, or of which it is not known yet. */
function infillObject(context: GatewayContext, { name }: ServedModel) {
  const header = context.tokenizer.vocabulary(name)?.header;
  if (!header || header.fimFamily === '') return null;
  return {
    prompt_order: header.fimOrder ?? '',
    chunks_max: INFILL_CHUNKS_MAX,
    stop_max: STOP_STRINGS_INFILL_MAX,
    max_tokens_default: INFILL_TOKENS_DEFAULT,
    prompt_tokens: header.infillPromptTokens ?? 0,
    modes: Object.keys(INFILL_MODES),
  };
}

function modelObject(context: GatewayContext, model: ServedModel) {
  const { name, contextLength, ready, fimFamily, chat, toolParser, reasoningParser, modelHash } = describeModel(
    context,
    model,
  );
  return {
    id: name,
    object: 'model',
    created: startedUnixS,
    owned_by: 'quern',
    root: name,
    parent: null,
    max_model_len: contextLength,
    quern: {
      ready,
      fim_family: fimFamily,
      chat,
      tool_parser: toolParser,
      reasoning_parser: reasoningParser,
      tokenizer_hash: context.tokenizer.vocabulary(name)?.header.contentHash ?? '',
      model_hash: modelHash,
      infill: infillObject(context, model),
    },
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
