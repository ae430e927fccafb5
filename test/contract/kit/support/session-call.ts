// What the tests of session-call.ts share: a call that is heard, and peers that are not what they should be.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, createServer as createSocketServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { QuernError } from '#kit/errors.ts';
import { SessionCall, type SessionTarget } from '#kit/rpc/session-call.ts';
import { EchoService, type Message } from './echo.ts';

export type Heard = {
  call: SessionCall<Message, Message>;
  messages: Message[];
  /** One for each onEnd. */
  ends: (QuernError | null)[];
  /** The first end. */
  ended: Promise<QuernError | null>;
  stop: AbortController;
};

export function open(t: TestContext, target: SessionTarget, onMessage?: (message: Message) => void): Heard {
  const stop = new AbortController();
  t.after(() => stop.abort());
  const messages: Message[] = [];
  const ends: (QuernError | null)[] = [];
  const { promise, resolve } = Promise.withResolvers<QuernError | null>();
  const call = new SessionCall(target, EchoService.talk, {
    signal: stop.signal,
    onMessage(message) {
      assert.equal(ends.length, 0, 'a message after the end');
      messages.push(message);
      onMessage?.(message);
    },
    onEnd(error) {
      ends.push(error);
      resolve(error);
    },
  });
  return { call, messages, ends, ended: promise, stop };
}

/** The end, told once; what could tell it again has had its chance. */
export async function endOf(heard: Heard): Promise<QuernError | null> {
  const error = await heard.ended;
  for (let i = 0; i < 20; i += 1) await turn();
  assert.equal(heard.ends.length, 1);
  return error;
}

export async function fails(
  heard: Heard,
  expected: { code: string; message?: RegExp; reason?: string },
): Promise<void> {
  const error = await endOf(heard);
  assert.equal(error?.code, expected.code, error?.message);
  if (expected.message) assert.match(error.message, expected.message);
  if (expected.reason !== undefined) assert.equal(error.details.reason, expected.reason);
}

/** A peer that answers each HTTP/2 stream as it is told to. */
export async function startPeer(t: TestContext, answer: (stream: ServerHttp2Stream) => void): Promise<SessionTarget> {
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    answer(stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** A peer that takes connections and says nothing. */
export async function startSilent(t: TestContext) {
  const sockets: Socket[] = [];
  const server = createSocketServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    sockets.push(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, sockets };
}
