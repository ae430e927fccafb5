import type { GatewayContext } from '../context.ts';
import type { Handler } from './exchange.ts';
import { sendJson } from './exchange.ts';

/**
 * GET /health: 200 when at least one model would serve a completion now and audit records can be written; the body tells. Without
 * stream or audit service the gateway is well: records wait in its outbox. So it is without tools.
 */
export function health(context: GatewayContext): Handler {
  return ({ response }) => {
    const models = context.models.all().map((model) => ({ model: model.name, ready: context.models.ready(model) }));
    const { serving, report } = context.audit;
    // Of the report only what tells a stranger nothing about the inside.
    const audit = report && {
      outbox: report.outbox,
      stream: report.stream,
      ...(report.service !== null && { service: report.service }),
      unsent_records: report.unsentRecords,
    };
    const body = { models, ...(audit && { audit }), tools: context.toolsWatch.report };
    if (!context.draining() && serving && models.some((model) => model.ready)) {
      sendJson(response, { status: 'ok', ...body });
      return;
    }
    const status = context.draining() ? 'draining' : serving ? 'not ready' : 'audit unavailable';
    response
      .writeHead(503, { 'content-type': 'application/json', 'retry-after': '1' })
      .end(JSON.stringify({ status, ...body }));
  };
}
