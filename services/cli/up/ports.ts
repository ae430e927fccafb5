/** Are the public ports free? Asked before anything starts, so that the answer is one sentence. */
import { createServer } from 'node:net';
import { QuernError } from '#kit/errors.ts';

/** Throws when HOST:PORT cannot be listened on, naming the option that chooses another. Port 0 is always free. */
export async function requireFreePort(address: string, option: string): Promise<void> {
  const { host, port } = splitAddress(address, option);
  if (port === 0) return;
  await new Promise<void>((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) =>
      reject(new QuernError('FAILED_PRECONDITION', sentence(error, address, port, option))),
    );
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve()));
  });
}

/** `preferred` when it is free on loopback, else one that the system gives out; none of `taken`. */
export async function findFreePort(preferred: number | undefined, taken: readonly number[]): Promise<number> {
  for (let port = preferred; ; port = undefined) {
    const found = await bind(port ?? 0);
    if (found !== null && !taken.includes(found)) return found;
  }
}

/** The port that was bound for a moment, or null when another program has it. */
function bind(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(null));
    probe.listen({ host: '127.0.0.1', port, exclusive: true }, () => {
      const address = probe.address();
      probe.close(() => resolve(address !== null && typeof address === 'object' ? address.port : null));
    });
  });
}

/** Splits HOST:PORT; throws INVALID_ARGUMENT for anything else. */
export function splitAddress(address: string, option: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:]+)):(\d+)$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    const hint = /^:?\d{1,5}$/.test(address) ? `; did you mean 127.0.0.1:${address.replace(':', '')}?` : '';
    throw new QuernError('INVALID_ARGUMENT', `${option}: expected HOST:PORT, got "${address}"${hint}`);
  }
  return { host: (match[1] ?? match[2]) as string, port };
}

function sentence(error: NodeJS.ErrnoException, address: string, port: number, option: string): string {
  if (error.code === 'EADDRINUSE') {
    return `port ${port} is taken: something already listens on ${address}; stop it, or choose another with ${option} HOST:PORT`;
  }
  if (error.code === 'EACCES')
    return `this user may not listen on ${address}; choose a port above 1023 with ${option} HOST:PORT`;
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return `${address} is no address of this machine; choose another with ${option} HOST:PORT`;
  return `cannot listen on ${address} (${error.message}); choose another with ${option} HOST:PORT`;
}
