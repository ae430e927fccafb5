/** `quern keys` and a mesh that is started with its file: who may call, and how soon a revoked key may not. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { quern, startMesh } from './mesh.ts';

const EFFECTIVE_WITHIN_MS = 20_000; // half a second; a busy machine takes longer

test('keys are made, listed, used and revoked', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'quern-keys-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'keys.json');
  const keysEnv = { QUERN_KEYS_FILE: file };

  const early = await quern(['up', '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0'], { env: keysEnv });
  assert.equal(early.code, 1);
  assert.match(early.stderr, /^quern: QUERN_KEYS_FILE: \S+ does not exist; .*quern keys create --file/);

  const created = await quern(['keys', 'create', '--tenant', 'acme', '--user', 'ann'], { env: keysEnv });
  assert.equal(created.code, 0, created.stderr);
  const token = created.stdout.trim();
  assert.match(token, /^qk_[0-9a-f]{12}_\S{43}$/);
  assert.ok(created.stderr.includes(`QUERN_KEYS_FILE=${file} npm start`), created.stderr);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.ok(!readFileSync(file, 'utf8').includes(token.slice(16)), 'the file holds the key itself');

  const mesh = await startMesh(t, { env: keysEnv });
  const env = { QUERN_GATEWAY: mesh.grpc };
  const nobody = await quern(['models'], { env });
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /expected an API key .*--api-key or in QUERN_API_KEY/);
  for (const args of [
    ['models'],
    ['complete', '--max-tokens', '4', 'x = '],
    ['call', 'ModelService/ListModels'],
    ['chat', 'Hi'],
  ]) {
    const byEnv = await quern(args, { env: { ...env, QUERN_API_KEY: token } });
    assert.equal(byEnv.code, 0, `${args[0]}: ${byEnv.stderr}`);
  }
  const bench = ['bench', '--scenario', 'fim', '--requests', '2', '--transport', 'both', '--json', '--api-key', token];
  const benched = await quern(bench, { env });
  assert.equal(benched.code, 0, benched.stderr);
  assert.equal(benched.stdout.match(/"completed":2/g)?.length, 2, benched.stdout);

  const listed = await quern(['keys', 'list', '--json', '--file', file]);
  const [key] = JSON.parse(listed.stdout) as { id: string; tenant: string; user: string; revoked: string | null }[];
  assert.deepEqual([key?.tenant, key?.user, key?.revoked], ['acme', 'ann', null]);
  assert.ok(!listed.stdout.includes('hash'));

  const ask = () =>
    fetch(`http://${mesh.http}/v1/models`, { headers: { authorization: `Bearer ${token}` } }).then(async (response) => {
      await response.text();
      return response.status;
    });
  assert.equal(await ask(), 200);
  const revoked = await quern(['keys', 'revoke', String(key?.id), '--file', file]);
  const since = performance.now(); // the command has ended, so the file has changed before this
  assert.equal(revoked.code, 0, revoked.stderr);
  while ((await ask()) === 200 && performance.now() - since < EFFECTIVE_WITHIN_MS) await sleep(50);
  assert.equal(await ask(), 401, `${Math.round(performance.now() - since)} ms after the command ended`);
  const refused = await quern(['models', '--api-key', token], { env });
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /unknown or revoked/);
  assert.match(
    (await quern(['keys', 'list', '--file', file])).stdout,
    /acme +ann .*\d{4}-\d\d-\d\dT\S+Z +\d{4}-\d\d-\d\dT\S+Z/,
  );

  const unknown = await quern(['keys', 'revoke', 'ffffffffffff', '--file', file]);
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /no key "ffffffffffff"/);
  const half = await quern(['keys', 'create', '--tenant', 'acme'], { env: keysEnv });
  assert.equal(half.code, 2);
  assert.match(half.stderr, /--tenant T and --user U/);
  assert.equal(await mesh.stop(), 0);
});
