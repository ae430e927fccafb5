import type { GatewayContext } from '../context.ts';
import type { Handler } from './exchange.ts';
import { sendJson } from './exchange.ts';

/** GET /health: 200 when at least one model would serve a completion now; the body tells which do. */
export function health(context: GatewayContext): Handler {
  return ({ response }) => {
    const models = context.models.all().map((model) => ({ model: model.name, ready: context.models.ready(model) }));
    const ready = !context.draining() && models.some((model) => model.ready);
    if (ready) {
      sendJson(response, { status: 'ok', models });
      return;
    }
    const status = context.draining() ? 'draining' : 'not ready';
    response
      .writeHead(503, { 'content-type': 'application/json', 'retry-after': '1' })
      .end(JSON.stringify({ status, models }));
  };
}
