// Requests of completion plug-ins as their own code sent them: test/fixtures/completion-requests.
import { readdirSync, readFileSync } from 'node:fs';

const FOLDER = new URL('../../../fixtures/completion-requests/', import.meta.url);

export type RecordedRequest = {
  name: string;
  method: 'GET' | 'POST';
  path: string;
  headers: Record<string, string>;
  body?: Record<string, unknown>;
  /** Path in the answer, * for each of an array -> what typeof says of it. */
  reads: Record<string, string>;
};

export const recordedClients = (): string[] =>
  readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -'.json'.length))
    .sort();

/** What a plug-in gives an answer, in milliseconds; a busy machine takes longer, and then there is less of it. */
const PATIENCE_MS = 60_000;

/** As they were recorded, but for the time limits: those get a test's patience. 1 stays, which asks for no text. */
export function recordedRequests(client: string): RecordedRequest[] {
  const { requests } = JSON.parse(readFileSync(new URL(`${client}.json`, FOLDER), 'utf8')) as {
    requests: RecordedRequest[];
  };
  return requests.map((request) => {
    const limit = request.body?.t_max_predict_ms;
    if (typeof limit !== 'number' || limit <= 1) return request;
    return { ...request, body: { ...request.body, t_max_predict_ms: PATIENCE_MS } };
  });
}

/** The body of the request of that name. */
export function recordedBody(client: string, name: string): Record<string, unknown> {
  const found = recordedRequests(client).find((request) => request.name === name);
  if (!found?.body) throw new Error(`${client} has no request ${name} with a body`);
  return found.body;
}
