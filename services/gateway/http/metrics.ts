import type { GatewayContext } from '../context.ts';
import type { Handler } from './exchange.ts';

/** GET /metrics: the Prometheus text format. */
export function metrics(context: GatewayContext): Handler {
  return async ({ response }) => {
    const text = await context.metrics.render();
    response.writeHead(200, { 'content-type': context.metrics.contentType }).end(text);
  };
}
