// SIGKILL of a gateway under load, again and again, on one outbox: every accepted request has exactly one end.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { assertPaired, named, recordsIn } from '../contract/gateway/fakes/audit-records.ts';
import { eventually } from '../contract/gateway/fakes/mesh.ts';
import { startMockEngine } from '../contract/gateway/fakes/mock-engine.ts';
import { startMockTokenizer } from '../contract/gateway/fakes/mock-tokenizer.ts';

const MAIN = fileURLToPath(new URL('../../services/gateway/main.ts', import.meta.url));

async function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'quern-kill-'));
  const engine = await startMockEngine({ listen: `unix://${folder}/engine.sock`, stepMs: 10 });
  const tokenizer = await startMockTokenizer({ listen: `unix://${folder}/tokenizer.sock` });
  const children: ChildProcess[] = [];
  t.after(async () => {
    for (const child of children) child.kill('SIGKILL');
    await engine.close();
    await tokenizer.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const env = {
    QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0',
    QUERN_GATEWAY_GRPC_LISTEN: `unix://${folder}/gateway.sock`,
    QUERN_GATEWAY_TOKENIZER: tokenizer.address,
    QUERN_GATEWAY_ENGINES: `mock=${engine.address}`,
    QUERN_AUDIT_OUTBOX_DIR: join(folder, 'outbox'),
    QUERN_AUDIT_KEY_DIR: join(folder, 'keys'),
    QUERN_NATS_URL: 'nats://127.0.0.1:1',
  };
  async function start(): Promise<{ child: ChildProcess; url: string }> {
    const child = fork(MAIN, [], { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    children.push(child);
    const [ready] = (await once(child, 'message')) as [{ addresses: string[]; audit: { outbox: string } }];
    assert.equal(ready.audit.outbox, 'open');
    const url = ready.addresses[0] ?? '';
    await eventually(async () => (await fetch(`${url}/health`)).status === 200, 'healthy', 60_000);
    return { child, url };
  }
  return { start, records: () => recordsIn(join(folder, 'outbox')) };
}

/** Clients that ask until the gateway is gone; `heard` gets the ids of requests of which something came. */
async function load(url: string, clients: number, heard: Set<string>, isOver: () => boolean): Promise<void> {
  let made = 0;
  const one = async (): Promise<void> => {
    while (!isOver()) {
      made += 1;
      const request_id = `${url.slice(-5)}-${made}`;
      const body = JSON.stringify({ prompt: 'x', max_tokens: 4 + (made % 20), stream: made % 2 === 0, request_id });
      try {
        const answer = await fetch(`${url}/v1/completions`, { method: 'POST', body });
        if (answer.status === 200) heard.add(request_id);
        await answer.text();
      } catch {
        // killed in the middle of it
      }
    }
  };
  await Promise.all(Array.from({ length: clients }, one));
}

test('killed five times under load: accepted equals finished, and whoever heard anything is recorded', {
  timeout: 400_000,
}, async (t) => {
  const { start, records } = await setUp(t);
  const heard = new Set<string>();
  for (let i = 0; i < 5; i += 1) {
    const { child, url } = await start();
    let over = false;
    const before = heard.size;
    const loaded = load(url, 12, heard, () => over);
    await eventually(() => heard.size >= before + 6 * (i + 1), 'answers', 60_000);
    await sleep(Math.random() * 20);
    child.kill('SIGKILL');
    await once(child, 'exit');
    over = true;
    await loaded;
    const accepted = new Set(named(await records(), 'request.accepted').map(({ request_id: id }) => id));
    for (const id of heard) assert.ok(accepted.has(id), `${id} was answered and not recorded`);
  }
  const { child } = await start();
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  const all = await records();
  assertPaired(all);
  const ends = named(all, 'request.finished');
  const recovered = ends.filter(({ outcome, reason }) => outcome === 'unknown' && reason === 'RECOVERED');
  t.diagnostic(`${ends.length} requests, ${recovered.length} recovered, ${heard.size} heard`);
  assert.ok(recovered.length >= 10, `${recovered.length} recovered`);
  assert.ok(heard.size >= 20, `${heard.size} heard`);
  const started = named(all, 'service.started');
  assert.equal(started.length, 6);
  const told = started.reduce((sum, { usage }) => sum + (usage?.recovered_requests ?? 0), 0);
  assert.equal(told, recovered.length);
  assert.equal(all.at(-1)?.action, 'service.drained');
});
