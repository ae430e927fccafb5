// Calls of the HTTP front door by tests.
import type { TestMesh } from './mesh.ts';

export type Answer = {
  status: number;
  headers: Headers;
  json: { error?: Record<string, unknown> } & Record<string, unknown>;
};

export async function post(
  mesh: TestMesh,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(mesh.url + path, {
    method: 'POST',
    body: text,
    headers: { 'content-type': 'application/json', ...headers },
  });
  return { status: response.status, headers: response.headers, json: (await response.json()) as Answer['json'] };
}
