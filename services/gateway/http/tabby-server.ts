// What Tabby's clients ask a server before anything else: GET /v1/health and GET /v1beta/server_setting.
import { cpus } from 'node:os';
import type { Model } from '#gen/quern/gateway/v1/gateway.ts';
import type { GatewayContext } from '../context.ts';
import { describeModel } from '../served-model.ts';
import { type Handler, sendJson } from './exchange.ts';

/**
 * Its agent reads version.git_describe without looking whether there is a version, and ends over it. By no number in it the agent
 * takes the server for a new one, and asks for its setting.
 */
const VERSION = { build_date: '', build_timestamp: '', git_sha: '', git_describe: 'quern' };

/** Tabby completes by one model, and its clients name none: of several it is the first that can fill in. */
function completionModel(models: readonly Model[]): Model | undefined {
  return models.find(({ fimFamily }) => fimFamily !== '');
}

const described = (context: GatewayContext): Model[] =>
  context.models.all().map((model) => describeModel(context, model));

/** Its name; "" where none can (yet), which means the only one or is refused with the names. */
export function completionModelName(context: GatewayContext): string {
  return completionModel(described(context))?.name ?? '';
}

/** GET /v1/health. */
export function tabbyHealth(context: GatewayContext): Handler {
  return ({ response }) => {
    const models = described(context);
    const completion = completionModel(models);
    const chat = models.find((model) => model.chat);
    const device = models[0]?.backend || 'unknown';
    const local = (name: string) => ({ local: { model_id: name, device, cuda_devices: [] } });
    const processors = cpus();
    sendJson(response, {
      model: completion?.name ?? null,
      chat_model: chat?.name ?? null,
      models: { ...(completion && { completion: local(completion.name) }), ...(chat && { chat: local(chat.name) }) },
      device,
      cuda_devices: [],
      arch: process.arch,
      cpu_info: processors[0]?.model ?? '',
      cpu_count: processors.length,
      version: VERSION,
      webserver: false,
    });
  };
}

/** GET /v1beta/server_setting: whoever completes by a mesh of their own does not tell Tabby's makers of it. */
export function tabbyServerSetting(): Handler {
  return ({ response }) => sendJson(response, { disable_client_side_telemetry: true });
}
