// The process of http_fetch: what comes from the outside is parsed here, where there are no files, no programs and no secrets but
// those of the allowed origins. It starts without environment and under Node's permission model; egress.ts starts and ends it.
import { lookup } from 'node:dns/promises';
import { assert } from '#kit/assert.ts';
import { QuernError } from '#kit/errors.ts';
import type { FetchMessage, FetchReply } from './fetch-messages.ts';
import { type EgressSettings, guardedFetch } from './guarded-fetch.ts';

let settings: EgressSettings | null = null;
const running = new Map<number, AbortController>();

const resolveHost = async (host: string): Promise<readonly string[]> =>
  (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address);

function reply(message: FetchReply): void {
  process.send?.(message);
}

/** What went wrong, without anything of this machine in it. */
function failureOf(error: unknown): { denied: boolean; message: string } {
  if (error instanceof QuernError) return { denied: error.code === 'PERMISSION_DENIED', message: error.message };
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
  return { denied: false, message: `the other side cannot be reached or does not speak HTTP (${code})` };
}

async function run({ id, request }: FetchMessage & { op: 'fetch' }): Promise<void> {
  assert(settings, 'settings come first');
  const cancel = new AbortController();
  running.set(id, cancel);
  try {
    reply({
      id,
      ok: true,
      answer: await guardedFetch(request, settings, { resolve: resolveHost, signal: cancel.signal }),
    });
  } catch (error) {
    reply({ id, ok: false, ...failureOf(error) });
  } finally {
    running.delete(id);
  }
}

process.on('message', (message: FetchMessage) => {
  if (message.op === 'settings') settings = message.settings;
  else if (message.op === 'cancel') running.get(message.id)?.abort();
  else void run(message);
});
process.on('disconnect', () => process.exit(0));
