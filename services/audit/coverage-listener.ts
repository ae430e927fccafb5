// A second socket, for a producer of another account on this machine: it answers what is covered and nothing else, which are hashes.
// Whoever reaches the service's own socket may read and erase, so that one stays closed to everybody else. This one lies in a folder
// that one group may enter, and none but its owner may write.
import { chmod, chown, lstat, mkdir, rmdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { AuditServiceService, type GetCoverageRequest, type GetCoverageResponse } from '#gen/quern/audit/v1/audit.ts';
import { QuernError } from '#kit/errors.ts';
import { type InternalAccess, serverAccess } from '#kit/internal-access.ts';
import type { Log } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { defineService, type RpcServer, startRpcServer } from '#kit/rpc/server.ts';
import type { SpanSink } from '#kit/trace.ts';
import type { CoverageSocket } from './coverage-socket.ts';

/** Those above it that are missing are 0755, or nobody could enter it. One that is there must be this account's own. */
async function makeFolder(folder: string): Promise<void> {
  if (resolve(folder) !== folder) {
    const message = `${folder}: expected an absolute path without . and .., since folders above it are made and opened; write it out`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'SOCKET_DIR_UNSAFE' });
  }
  const above = dirname(folder);
  for (let made = await mkdir(above, { recursive: true }), path = above; made !== undefined; path = dirname(path)) {
    await chmod(path, 0o755); // whatever the umask
    if (path === made) break;
  }
  await mkdir(folder, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    const message = `${folder}: expected a folder of this account, found another's; remove it or choose another path`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'SOCKET_DIR_UNSAFE' });
  }
  await chmod(folder, 0o700); // an earlier process opened it to the group
}

export type CoverageListenerOptions = {
  answer: (request: GetCoverageRequest) => Promise<GetCoverageResponse>;
  internal: InternalAccess;
  log: Log;
  spans: SpanSink;
};

/** Closed to all until it listens; then open to the group, and to nobody else. */
async function listen(
  { path, group }: CoverageSocket,
  { answer, internal, log, spans }: CoverageListenerOptions,
): Promise<RpcServer> {
  const folder = dirname(path);
  await makeFolder(folder);
  const { getCoverage: method } = AuditServiceService;
  const server = await startRpcServer({
    service: 'audit',
    listen: [`unix://${path}`],
    services: [defineService({ getCoverage: method }, { getCoverage: (request) => answer(request) })],
    ...serverAccess(internal),
    requireDeadline: true,
    reflection: false,
    log,
    metrics: createMetrics('audit'), // the calls of a machine's own tool service, which counts them too
    spans,
  });
  try {
    await chown(path, -1, group);
    await chmod(path, 0o660);
    await chown(folder, -1, group);
    await chmod(folder, 0o710);
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

/**
 * Answers how to close it. Where it cannot be made it is told of, and the service runs without: the producer's records are safe, and
 * wait in its outbox.
 */
export async function serveCoverage(
  socket: CoverageSocket,
  options: CoverageListenerOptions,
): Promise<() => Promise<void>> {
  try {
    const server = await listen(socket, options);
    return async () => {
      await server.close();
      await rmdir(dirname(socket.path)).catch(() => {}); // it holds another's file
    };
  } catch (error) {
    const { path, group } = socket;
    options.log.error(
      { err: error, path, group },
      'no socket for coverage: outboxes of other accounts keep their segments',
    );
    return async () => {};
  }
}
