// What requests hear of one engine's Session, against the mock engine over a real socket.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { RPC_MESSAGE_BYTES_MAX } from '#kit/limits.ts';
import { createLog } from '#kit/log.ts';
import { EngineSession, type HandleListener } from '../../../services/gateway/engine-session.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import { startMockEngine } from './fakes/mock-engine.ts';

async function until(isDone: () => boolean, what: string): Promise<void> {
  const giveUpAt = Date.now() + 20_000;
  while (!isDone()) {
    if (Date.now() > giveUpAt) throw new Error(`not within 20 s: ${what}`);
    await sleep(2);
  }
}

async function start(t: TestContext, stepMs: number) {
  const folder = mkdtempSync(join(tmpdir(), 'quern-session-'));
  const engine = await startMockEngine({ listen: `unix://${folder}/engine.sock`, stepMs });
  const log = createLog({ service: 'x', level: 'silent' });
  const session = new EngineSession({ address: engine.address, model: 'mock', log });
  t.after(async () => {
    await session.close();
    await engine.close();
    rmSync(folder, { recursive: true, force: true });
  });
  session.start();
  await until(() => session.ready, 'the Session is open');
  const submit = (listener: Partial<HandleListener>, maxTokens = 10_000): number => {
    const sampling = { ...emptySampling(), maxTokens, ignoreEos: true };
    const nothing = { onTokens() {}, onFinished() {}, onStep() {}, onBroken() {}, onFault() {} };
    const request = { ...GenerationRequest.decode(new Uint8Array()), tokenIds: [1], sampling };
    return session.submit(request, { ...nothing, ...listener });
  };
  return { engine, session, submit };
}

test('a request whose first tokens have come hears of them, and of the step, before any other hears of theirs', async (t) => {
  const { submit } = await start(t, 20);
  let unfinished = 0; // others that have heard their tokens of this step and not its end
  let heard = 0;
  const other = {
    onTokens: () => {
      unfinished += 1;
    },
    onStep: () => {
      unfinished -= 1;
      heard += 1;
    },
  };
  for (let i = 0; i < 12; i += 1) submit(other);
  await until(() => heard > 24, 'the others run');
  const events: string[] = [];
  submit({ onTokens: () => events.push(`tokens ${unfinished}`), onStep: () => events.push(`step ${unfinished}`) });
  await until(() => events.length >= 2, 'the first step');
  assert.deepEqual(events.slice(0, 2), ['tokens 0', 'step 0']);
});

for (const at of ['onTokens', 'onStep'] as const) {
  test(`a listener that throws in ${at} hears so once, is cancelled at the engine, and no other is touched`, async (t) => {
    const { engine, session, submit } = await start(t, 1);
    const faults: unknown[] = [];
    const thrown = new Error('a bug');
    let steps = 0;
    let ended = 0;
    submit({ onStep: () => (steps += 1), onFinished: () => (ended += 1) }, 200);
    let calls = 0;
    submit({
      [at]: () => {
        calls += 1;
        throw thrown;
      },
      onFault: (error) => void faults.push(error),
    });
    await until(() => engine.cancels === 1 && session.inFlight <= 1, 'the engine has ended the handle');
    await until(() => ended === 1, 'the other has all its tokens');
    assert.deepEqual(faults, [thrown]);
    assert.equal(calls, 1);
    assert.equal(session.inFlight, 0);
    assert.ok(steps >= 1);
  });
}

test('a listener that throws in onFinished hears so once, and nothing is left of it', async (t) => {
  const { session, submit } = await start(t, 1);
  const faults: string[] = [];
  const onFinished = (): never => {
    throw new Error('at the end');
  };
  submit({ onFinished, onFault: (error) => void faults.push((error as Error).message) }, 3);
  await until(() => faults.length > 0, 'the fault is told');
  assert.deepEqual(faults, ['at the end']);
  assert.equal(session.inFlight, 0);
});

test('a request that is forgotten hears nothing more, though tokens of it are still to be told', async (t) => {
  const { engine, session, submit } = await start(t, 5);
  let heard = 0;
  for (let i = 0; i < 40; i += 1) submit({}); // its tokens are told in a later turn than the first ones of a step
  const handle = submit({ onTokens: () => (heard += 1) });
  await until(() => heard > 2, 'it runs');
  session.cancel(handle, { forget: true });
  const before = heard;
  await until(() => engine.live === 40, 'the engine has ended it');
  await sleep(30);
  assert.equal(heard, before);
});

test('of a request that is forgotten whoever asks for it hears the end, and nothing else does', async (t) => {
  const { session, submit } = await start(t, 1);
  let heard = 0;
  const told: string[] = [];
  const handle = submit({ onTokens: () => (heard += 1), onFinished: () => told.push('listener') });
  await until(() => heard > 2, 'it runs');
  session.cancel(handle, { forget: false });
  session.cancel(handle, { forget: true, onLateEnd: ({ timings }) => told.push(`late, ${timings?.prefillNs}`) });
  await until(() => told.length > 0, 'the end is told');
  assert.deepEqual(told, ['late, 2000']);
  assert.equal(session.inFlight, 0);
});

test('a request that is too large for a message is refused alone: it leaves no handle, and the others go on', async (t) => {
  const { session, submit } = await start(t, 5);
  let heard = 0;
  let broken = 0;
  submit({ onStep: () => void heard++, onBroken: () => void broken++ });
  const tooLarge = { ...GenerationRequest.decode(new Uint8Array()), requestId: 'x'.repeat(RPC_MESSAGE_BYTES_MAX) };
  const nothing = { onTokens() {}, onFinished() {}, onStep() {}, onBroken() {}, onFault() {} };
  assert.throws(() => session.submit(tooLarge, nothing), {
    code: 'RESOURCE_EXHAUSTED',
    details: { reason: 'MESSAGE_TOO_LARGE' },
  });
  assert.equal(session.inFlight, 1);
  const before = heard;
  await until(() => heard > before + 2, 'the other request goes on');
  assert.equal(broken, 0);
});
