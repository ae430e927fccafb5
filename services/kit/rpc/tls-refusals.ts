// Says in the log whom TLS turned away and why. The caller often sees no more than a closed connection, and grpc-js
// tells neither side.
import type { EventEmitter } from 'node:events';
import type { TLSSocket } from 'node:tls';
import type { Server } from '@grpc/grpc-js';
import { assert } from '#kit/assert.ts';
import { TLS_REFUSALS_LOG_MS } from '#kit/limits.ts';
import type { Log } from '#kit/log.ts';

/**
 * Logs handshakes that fail from now on, one line in TLS_REFUSALS_LOG_MS with the number of those left out. Call after
 * the binds. grpc-js has no event for it, so this reaches into a private field (checked by
 * test/contract/kit/server.test.ts).
 */
export function logTlsRefusals(server: Server, log: Log): void {
  const { http2Servers } = server as unknown as { http2Servers?: Map<EventEmitter, unknown> };
  assert(http2Servers, 'grpc-js changed: http2Servers is gone');
  let lineAtMs = Number.NEGATIVE_INFINITY;
  let leftOut = 0;
  const onRefusal = (error: NodeJS.ErrnoException, socket: TLSSocket): void => {
    // Null at run time where nothing was found wrong with the peer: it went away, as TCP probes do.
    const reason = (socket.authorizationError as unknown as string | null) ?? error.code ?? error.message;
    if (reason === 'ECONNRESET') {
      log.debug({ peer: socket.remoteAddress }, 'a connection ended before its TLS handshake');
      return;
    }
    const now = performance.now();
    if (now - lineAtMs < TLS_REFUSALS_LOG_MS) {
      leftOut += 1;
      return;
    }
    log.warn({ peer: socket.remoteAddress, reason, left_out: leftOut }, 'a connection was refused by TLS');
    lineAtMs = now;
    leftOut = 0;
  };
  for (const one of http2Servers.keys()) one.on('tlsClientError', onRefusal);
}
