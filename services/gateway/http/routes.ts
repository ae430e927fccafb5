// Every path of the HTTP front door.
import type { GatewayContext } from '../context.ts';
import { chat } from './chat.ts';
import { chatCompletions } from './chat-completions.ts';
import { completions } from './completions.ts';
import { detokenize } from './detokenize.ts';
import type { Handler } from './exchange.ts';
import { HttpFailure } from './failure.ts';
import { generate } from './generate.ts';
import { health } from './health.ts';
import { infill } from './infill.ts';
import { invoke } from './invoke.ts';
import { metrics } from './metrics.ts';
import { getModel, listModels } from './models.ts';
import { tabbyEvents } from './tabby-events.ts';
import { tabbyHealth, tabbyServerSetting } from './tabby-server.ts';
import { tokenize } from './tokenize.ts';

export type Route = {
  method: 'GET' | 'POST';
  path: string;
  /** Needs no key: nothing of a tenant is in the answer. */
  open: boolean;
  handler: (context: GatewayContext) => Handler;
};

const ROUTES: readonly Route[] = [
  { method: 'POST', path: '/v1/completions', open: false, handler: completions },
  { method: 'POST', path: '/v1/chat/completions', open: false, handler: chatCompletions },
  { method: 'GET', path: '/v1/models', open: false, handler: listModels },
  { method: 'GET', path: '/v1/models/*', open: false, handler: getModel },
  { method: 'POST', path: '/infill', open: false, handler: infill },
  { method: 'GET', path: '/v1/health', open: false, handler: tabbyHealth },
  { method: 'GET', path: '/v1beta/server_setting', open: false, handler: tabbyServerSetting },
  { method: 'POST', path: '/v1/events', open: false, handler: tabbyEvents },
  { method: 'POST', path: '/tokenize', open: false, handler: tokenize },
  { method: 'POST', path: '/detokenize', open: false, handler: detokenize },
  { method: 'POST', path: '/generate', open: false, handler: generate },
  { method: 'POST', path: '/chat', open: false, handler: chat },
  { method: 'POST', path: '/invoke', open: false, handler: invoke },
  { method: 'GET', path: '/health', open: true, handler: health },
  { method: 'GET', path: '/metrics', open: true, handler: metrics },
];

const EXACT = new Map(ROUTES.filter((route) => !route.path.endsWith('*')).map((route) => [route.path, route]));
const PREFIXED = ROUTES.filter((route) => route.path.endsWith('*'));

export type FoundRoute = { route: Route; parameter: string };

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Throws 404 for an unknown path, 405 with Allow for a wrong method. */
export function findRoute(method: string, url: string): FoundRoute {
  const path = (url.split('?')[0] as string).replace(/(?<=.)\/+$/, '');
  const prefixed = PREFIXED.find((one) => path.startsWith(one.path.slice(0, -1)));
  const route = EXACT.get(path) ?? prefixed;
  if (!route) {
    const message = `no such path: ${path.slice(0, 200)}; served: ${ROUTES.map((one) => one.path).join(', ')}`;
    throw new HttpFailure(404, 'unknown_path', message);
  }
  if (route.method !== (method === 'HEAD' ? 'GET' : method)) {
    throw new HttpFailure(405, 'method_not_allowed', `${route.path} takes ${route.method}, got ${method}`, {
      allow: route.method,
    });
  }
  return { route, parameter: route === prefixed ? decode(path.slice(route.path.length - 1)) : '' };
}
