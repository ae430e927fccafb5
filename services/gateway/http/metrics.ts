import type { GatewayContext } from '../context.ts';
import type { Handler } from './exchange.ts';

/** GET /metrics: the Prometheus text format, or OpenMetrics with exemplars for who asks for it. */
export function metrics(context: GatewayContext): Handler {
  return async ({ request, response }) => {
    const { contentType, text } = await context.metrics.scrape(request.headers.accept);
    response.writeHead(200, { 'content-type': contentType }).end(text);
  };
}
