/** A gateway with an outbox, for tests of what is recorded in it. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CompleteRequest, CompleteRequest as CompleteRequests } from '#gen/quern/gateway/v1/gateway.ts';
import type { AuditRecord } from '#kit/audit/record.ts';
import type { QuernError } from '#kit/errors.ts';
import { emptySampling } from '../../../../services/gateway/typed-request.ts';
import { assertPaired, named, recordsIn } from './audit-records.ts';
import { eventually, type MeshOptions, startMesh, type TestMesh } from './mesh.ts';

const EMPTY = new Uint8Array(0);

export function completeRequest(text = 'x = ', maxTokens = 8): CompleteRequest {
  return {
    ...CompleteRequests.decode(EMPTY),
    prompt: { $case: 'text', value: text },
    sampling: { ...emptySampling(), maxTokens },
  };
}

export function audited(t: TestContext, options: MeshOptions = {}): Promise<TestMesh> {
  return startMesh(t, { audit: () => ({}), ...options });
}

export const post = (
  mesh: TestMesh,
  path: string,
  body: object,
  headers: Record<string, string> = {},
): Promise<Response> => fetch(`${mesh.url}${path}`, { method: 'POST', body: JSON.stringify(body), headers });

/** All records, when as many requests have ended in them; `running` ones have not. */
export async function ended(mesh: TestMesh, requests: number, { running } = { running: 0 }): Promise<AuditRecord[]> {
  const dir = join(mesh.folder, 'outbox');
  await eventually(
    async () => named(await recordsIn(dir), 'request.finished').length >= requests,
    `${requests} requests have ended in the audit`,
  );
  await sleep(20); // an end too many would come now
  const records = await recordsIn(dir);
  assert.equal(named(records, 'request.finished').length, requests);
  assert.equal(named(records, 'request.accepted').length, requests + running);
  if (running === 0) assertPaired(records);
  return records;
}

export const code = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'OK',
    (error: QuernError) => error.code,
  );

export async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}
