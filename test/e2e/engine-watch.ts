/** The engine of a running mesh, asked over the socket that the gateway uses. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineServiceClient, type GetLoadResponse } from '#gen/quern/engine/v1/engine.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import type { Mesh } from './mesh.ts';

/** GetLoad of the mesh's first engine. */
export function watchEngine(t: Pick<TestContext, 'after'>, mesh: Mesh): () => Promise<GetLoadResponse> {
  const ready = mesh.events.find(({ event }) => event === 'ready');
  const parts = ready?.parts as { name: string; where: string }[];
  const address = /unix:\/\/[^,\s]+/.exec(parts.find(({ name }) => name.startsWith('engine'))?.where ?? '')?.[0];
  assert.ok(address !== undefined, `no engine socket in ${JSON.stringify(parts)}`);
  const client = openChannel(EngineServiceClient, { address });
  t.after(() => client.close());
  return () => unary(client, 'getLoad', {}, { timeoutMs: 5_000 });
}

/** Polls until the load is as wanted. */
export async function until(
  load: () => Promise<GetLoadResponse>,
  holds: (now: GetLoadResponse) => boolean,
  withinMs: number,
): Promise<GetLoadResponse> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const now = await load();
    if (holds(now)) return now;
    assert.ok(
      Date.now() < deadline,
      `not within ${withinMs} ms: ${JSON.stringify(now, (_, v) => (typeof v === 'bigint' ? Number(v) : v))}`,
    );
    await sleep(5);
  }
}
