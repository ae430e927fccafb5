// A run's events as the messages of a gRPC stream.
import type { RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { toQuernError } from '#kit/errors.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import type { RunReader } from '../agent/run-log.ts';

/** Hands on every event until the run's end. Throws the call's reason, or why the reader was dropped. */
export async function streamRun<T>(
  reader: RunReader,
  { signal }: CallContext,
  out: Out<T>,
  shape: (event: RunResponse) => T,
): Promise<void> {
  try {
    for (let event = await reader.next({ signal }); event !== null; event = await reader.next({ signal })) {
      if (!out.write(shape(event))) await out.drained(signal);
    }
    reader.close();
  } catch (thrown) {
    reader.close(toQuernError(thrown));
    throw thrown;
  }
}
