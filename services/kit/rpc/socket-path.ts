// Unix sockets: where they live, who may reach them, and what an earlier process left behind. The socket file itself
// is open to all; only the 0700 directory around it protects it.
import { lstat, mkdir, stat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { UNIX_PATH_BYTES_MAX } from '#kit/limits.ts';
import { sha256Hex } from '#kit/secure.ts';

function fail(message: string, reason: string, cause?: unknown): never {
  throw new QuernError('FAILED_PRECONDITION', message, { reason }, cause === undefined ? {} : { cause });
}

/**
 * The folder for the sockets of one mesh: $XDG_RUNTIME_DIR/quern-<hash>, else /tmp/quern-<uid>-<hash>. `seed` tells
 * meshes of one user apart (the state folder's path). Short on purpose: a state path may break the 107-byte limit.
 */
export function runtimeDir(options: { seed?: string; xdgRuntimeDir?: string | undefined; uid?: number } = {}): string {
  const { seed = '', xdgRuntimeDir, uid = process.getuid?.() ?? 0 } = options;
  const hash = sha256Hex(seed).slice(0, 12);
  return xdgRuntimeDir ? join(xdgRuntimeDir, `quern-${hash}`) : `/tmp/quern-${uid}-${hash}`;
}

/** Throws FAILED_PRECONDITION, reason SOCKET_PATH_TOO_LONG. */
export function checkSocketPath(path: string): void {
  const size = Buffer.byteLength(path);
  if (size <= UNIX_PATH_BYTES_MAX) return;
  fail(
    `unix socket path: expected at most ${UNIX_PATH_BYTES_MAX} bytes, got ${size} (${path}); choose a shorter folder`,
    'SOCKET_PATH_TOO_LONG',
  );
}

/** Creates the folder 0700, or checks that it is ours and closed to others. Reason SOCKET_DIR_UNSAFE. */
export async function ensurePrivateDir(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const info = await stat(path);
  const uid = process.getuid?.() ?? info.uid;
  if (!info.isDirectory())
    fail(`socket folder ${path}: expected a directory; remove it or choose another`, 'SOCKET_DIR_UNSAFE');
  if (info.uid !== uid) {
    fail(
      `socket folder ${path}: expected owner uid ${uid}, got ${info.uid}; choose another folder`,
      'SOCKET_DIR_UNSAFE',
    );
  }
  if ((info.mode & 0o077) !== 0) {
    const mode = (info.mode & 0o777).toString(8).padStart(4, '0');
    fail(
      `socket folder ${path}: expected mode 0700, got ${mode}; run chmod 700 on it or choose another`,
      'SOCKET_DIR_UNSAFE',
    );
  }
}

type Probe = 'absent' | 'stale' | 'alive';

function probe(path: string): Promise<Probe> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve('alive');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve('absent');
      else if (error.code === 'ECONNREFUSED') resolve('stale');
      else reject(error);
    });
  });
}

/**
 * Makes `path` ready to be bound: its length, its folder, and the file a killed process left there. A socket that
 * answers belongs to a living process: refused, reason SOCKET_IN_USE. A file that is no socket is left alone.
 */
export async function prepareSocketPath(path: string): Promise<void> {
  checkSocketPath(path);
  await ensurePrivateDir(dirname(path));
  const info = await lstat(path).catch(() => null);
  if (!info) return;
  if (!info.isSocket()) {
    fail(`unix socket ${path}: expected nothing or an old socket, found another file; remove it`, 'SOCKET_PATH_TAKEN');
  }
  const found = await probe(path).catch((cause) =>
    fail(`unix socket ${path}: cannot be probed: ${cause}`, 'SOCKET_IN_USE', cause),
  );
  if (found === 'alive') {
    fail(`unix socket ${path}: another process listens there; stop it or choose another path`, 'SOCKET_IN_USE');
  }
  if (found === 'stale') await unlink(path).catch(() => {});
}
