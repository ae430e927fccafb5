// What the three kinds of grpc-js server calls have in common, and what their headers say.
import type { EventEmitter } from 'node:events';
import type { ServerDuplexStream, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { uuidv7 } from '#kit/ids.ts';
import { REQUEST_ID_CHARS_MAX } from '#kit/limits.ts';

export type Unary = ServerUnaryCall<unknown, Buffer>;
export type Writable = ServerWritableStream<unknown, Buffer>;
export type Duplex = ServerDuplexStream<unknown, Buffer>;
export type Surface = Unary | Writable | Duplex;

/** The three kinds as what they share: their own overloads of once() do not unite. */
export function eventsOf(surface: Surface): EventEmitter {
  return surface;
}

const connectionIds = new WeakMap<object, number>();
let connections = 0;

/** One name per connection. Unix sockets have no address, so the HTTP/2 session, which grpc-js keeps private, is numbered. */
export function peerOf(surface: Surface): string {
  const address = surface.getPeer();
  if (address !== 'unknown') return address;
  const session = (surface as unknown as { call?: { stream?: { session?: object } } }).call?.stream?.session;
  if (!session) return 'unix';
  let id = connectionIds.get(session);
  if (id === undefined) {
    connections += 1;
    id = connections;
    connectionIds.set(session, id);
  }
  return `unix#${id}`;
}

/** Where a peer named by peerOf calls from: its address without the port, "unix" for a unix socket. */
export function hostOfPeer(peer: string): string {
  return isUnixPeer(peer) ? 'unix' : peer.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}

/** True for a name that peerOf gave to a connection over a unix socket. */
export function isUnixPeer(peer: string): boolean {
  return peer === 'unix' || peer.startsWith('unix#');
}

export function headerOf(surface: Surface, name: string): string | undefined {
  return surface.metadata.get(name)[0]?.toString();
}

/** Milliseconds since 1970, or null when the caller set none. */
export function deadlineOf(surface: Surface): number | null {
  const deadline = surface.getDeadline();
  const unixMs = typeof deadline === 'number' ? deadline : deadline.getTime();
  return Number.isFinite(unixMs) ? unixMs : null;
}

/** The caller's x-request-id when it is short and printable, else a new one. */
export function requestIdOf(surface: Surface): string {
  const given = headerOf(surface, 'x-request-id');
  return given && given.length <= REQUEST_ID_CHARS_MAX && /^[\x21-\x7e]+$/.test(given) ? given : uuidv7();
}
