// Who calls the gRPC front door: identity, keys, whose request an id names, callers that go away.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FinishReason, PriorityClass } from '#gen/quern/common/v1/common.ts';
import { ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { createKey, revokeKey } from '#kit/keys-file.ts';
import { unary } from '#kit/rpc/client.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import { completeRequest, options, refusal, stream } from './fakes/grpc-calls.ts';
import { eventually, startMesh } from './fakes/mesh.ts';
import { bytesOf, IM_END } from './fakes/mock-tokenizer.ts';

test('identity comes from the principal: salt, tenant and class cannot be chosen', async (t) => {
  const mesh = await startMesh(t);
  const wanted = { ...emptySampling(), maxTokens: 2 };
  await stream(
    mesh,
    completeRequest({
      sampling: wanted,
      options: options({ priorityClass: PriorityClass.PRIORITY_CLASS_BATCH, supersedeKey: 'k', priority: -3 }),
    }),
  );
  await stream(mesh, completeRequest({ sampling: { ...wanted, maxTokens: 0 } }));
  const [first, warm] = mesh.engine.requests;
  assert.equal(first?.tenant, 'local');
  assert.match(first?.cacheSalt ?? '', /^[0-9a-f]{32}$/);
  assert.equal(first?.priorityClass, PriorityClass.PRIORITY_CLASS_BATCH);
  assert.equal(first?.priority, -3);
  assert.equal(first?.supersedeKey, 'k');
  assert.match(first?.traceparent ?? '', /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
  assert.equal(warm?.priorityClass, PriorityClass.PRIORITY_CLASS_WARM);
});

async function keyedMesh(t: TestContext) {
  const plain = await startMesh(t);
  const path = join(plain.folder, 'keys.json');
  const ada = await createKey(path, { tenant: 'acme', user: 'ada', priorityCeiling: 'CHAT', parseSpecial: 'none' });
  const bob = await createKey(path, { tenant: 'other', user: 'bob' });
  const mesh = await startMesh(t, { env: { QUERN_KEYS_FILE: path } });
  const as = (token: string) => ({ metadata: { authorization: `Bearer ${token}` }, timeoutMs: 20_000 });
  return { mesh, path, ada, bob, as };
}

test('keys: tenant, ceilings and separate salts; none is UNAUTHENTICATED; revoked within a second', async (t) => {
  const { mesh, path, ada, bob, as } = await keyedMesh(t);
  const sampling = { ...emptySampling(), maxTokens: 2 };
  const request = completeRequest({
    prompt: { $case: 'text', value: 'a<|im_end|>' },
    sampling,
    parseSpecial: ParseSpecial.PARSE_SPECIAL_ALL,
    options: options({ priorityClass: PriorityClass.PRIORITY_CLASS_INVOKED }),
  });
  assert.equal((await refusal(unary(mesh.completion, 'complete', request, {}))).code, 'UNAUTHENTICATED');
  await unary(mesh.completion, 'complete', request, as(ada.token));
  await unary(mesh.completion, 'complete', request, as(bob.token));
  const [first, second] = mesh.engine.requests;
  assert.deepEqual([first?.tenant, second?.tenant], ['acme', 'other']);
  assert.notEqual(first?.cacheSalt, second?.cacheSalt);
  assert.deepEqual(
    [first?.priorityClass, second?.priorityClass],
    [PriorityClass.PRIORITY_CLASS_CHAT, PriorityClass.PRIORITY_CLASS_INVOKED],
  );
  assert.deepEqual(first?.tokenIds, bytesOf('a<|im_end|>'));
  assert.deepEqual(second?.tokenIds, [0x61, IM_END]);
  await revokeKey(path, ada.key.id);
  await eventually(
    async () =>
      (
        await unary(mesh.completion, 'complete', request, as(ada.token)).then(
          () => null,
          (e) => e,
        )
      )?.code === 'UNAUTHENTICATED',
    'refused',
  );
  await unary(mesh.completion, 'complete', request, as(bob.token));
});

test('a request id is one running request of its principal; Cancel ends it with what there is', async (t) => {
  const { mesh, ada, bob, as } = await keyedMesh(t);
  mesh.engine.settings.stepMs = 10;
  const slow = completeRequest({
    sampling: { ...emptySampling(), maxTokens: 4000 },
    options: options({ requestId: 'same' }),
  });
  const running = unary(mesh.completion, 'complete', slow, as(ada.token));
  await eventually(() => mesh.engine.live === 1, 'running');
  assert.equal((await refusal(unary(mesh.completion, 'complete', slow, as(ada.token)))).code, 'ALREADY_EXISTS');
  assert.deepEqual(await unary(mesh.requests, 'cancel', { requestId: 'same' }, as(bob.token)), { cancelled: false });
  assert.equal(mesh.engine.live, 1);
  assert.deepEqual(await unary(mesh.requests, 'cancel', { requestId: 'same' }, as(ada.token)), { cancelled: true });
  const { choices, end } = await running;
  assert.equal(choices[0]?.finishReason, FinishReason.FINISH_REASON_CANCELLED);
  assert.equal(end?.usage?.completionTokens, choices[0]?.text.length);
  assert.deepEqual(await unary(mesh.requests, 'cancel', { requestId: 'same' }, as(ada.token)), { cancelled: false });
  assert.equal(mesh.gateway.context.requests.size, 0);
});

test('a role opens no door: an admin can neither cancel nor hinder what another runs', async (t) => {
  const folder = (await startMesh(t)).folder;
  const path = join(folder, 'keys.json');
  const user = await createKey(path, { tenant: 'acme', user: 'ada' });
  const admin = await createKey(path, { tenant: 'acme', user: 'root', role: 'admin' });
  const mesh = await startMesh(t, { env: { QUERN_KEYS_FILE: path }, engine: { stepMs: 10 } });
  const as = (token: string) => ({ metadata: { authorization: `Bearer ${token}` }, timeoutMs: 20_000 });
  const slow = completeRequest({
    sampling: { ...emptySampling(), maxTokens: 4000 },
    options: options({ requestId: 'one' }),
  });
  const running = unary(mesh.completion, 'complete', slow, as(user.token));
  await eventually(() => mesh.engine.live === 1, 'running');
  assert.deepEqual(await unary(mesh.requests, 'cancel', { requestId: 'one' }, as(admin.token)), { cancelled: false });
  const brief = { ...slow, sampling: { ...emptySampling(), maxTokens: 2 } };
  await unary(mesh.completion, 'complete', brief, as(admin.token)); // the same id is the admin's own request
  assert.equal(mesh.engine.live, 1);
  await unary(mesh.requests, 'cancel', { requestId: 'one' }, as(user.token));
  await running;
});

test('a lost client and a passed deadline reach the engine', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  const slow = completeRequest({ sampling: { ...emptySampling(), maxTokens: 4000 } });
  const controller = new AbortController();
  const lost = stream(mesh, slow, { signal: controller.signal });
  await eventually(() => mesh.engine.live === 1, 'running');
  controller.abort();
  await assert.rejects(lost);
  await eventually(() => mesh.engine.live === 0, 'cancelled');
  assert.equal((await refusal(stream(mesh, slow, { timeoutMs: 1_500 }))).code, 'DEADLINE_EXCEEDED');
  const sent = mesh.engine.requests[1]?.timeoutMs ?? 0;
  assert.ok(sent > 0 && sent <= 1_500, `timeout_ms ${sent}`);
  await eventually(() => mesh.engine.live === 0 && mesh.gateway.context.admission.requests === 0, 'all gone');
});
