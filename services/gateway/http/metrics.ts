import { authenticateLocal, bearerToken } from '../api-keys.ts';
import type { GatewayContext } from '../context.ts';
import type { Handler } from './exchange.ts';

/**
 * GET /metrics: the Prometheus text format, or OpenMetrics with exemplars for who asks for it. Open to everybody who reaches
 * the gateway, so what names tenants is only for a key of role admin or service (and for the person of a machine without keys).
 */
export function metrics(context: GatewayContext): Handler {
  return async ({ request, response }) => {
    const token = bearerToken(request.headers.authorization);
    const isLocal = context.authenticate === authenticateLocal;
    const role = token !== null && !isLocal ? context.authenticate(token, request.socket.remoteAddress).role : 'user';
    const { contentType, text } = await context.metrics.scrape(request.headers.accept, {
      tenants: isLocal || role !== 'user',
    });
    response.writeHead(200, { 'content-type': contentType }).end(text);
  };
}
