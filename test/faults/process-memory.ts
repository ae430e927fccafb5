// The memory of running Node processes, measured from outside: through the inspector that NODE_OPTIONS opens in each, so
// that what is counted comes right after a full garbage collection.
import assert from 'node:assert/strict';

/** Opens an inspector on a free loopback port in a process and all its children. */
export const INSPECTED = { NODE_OPTIONS: '--inspect=127.0.0.1:0' };

export type ProcessMemory = {
  rssMib: number;
  /** JavaScript objects alive. */
  heapMib: number;
  /** Sockets, servers, timers and what else keeps an event loop turning. */
  resources: number;
};

const MEASURE = `(() => {
  const { rss, heapUsed } = process.memoryUsage();
  const resources = process.getActiveResourcesInfo().length;
  return JSON.stringify({ pid: process.pid, memory: { rssMib: rss / 2 ** 20, heapMib: heapUsed / 2 ** 20, resources } });
})()`;

/** The inspectors that a log of processes' output names. */
export function inspectorsIn(log: string): string[] {
  return [...log.matchAll(/Debugger listening on (ws:\/\/\S+)/g)].map((match) => match[1] as string);
}

type Answer = { id?: number; result?: { result?: { value?: unknown } }; error?: { message: string } };

/**
 * Asks the inspector at `url` (https://chromedevtools.github.io/devtools-protocol/) for the process's memory after a
 * collection, and lets go of it: a process with an inspector attached does not end when it crashes.
 */
export async function measureProcess(url: string): Promise<{ pid: number; memory: ProcessMemory }> {
  const socket = new WebSocket(url);
  const waiting = new Map<number, (answer: Answer) => void>();
  const gone: Answer = { error: { message: `no inspector answers at ${url}` } };
  let sent = 0;
  socket.addEventListener('message', ({ data }) => {
    const answer = JSON.parse(String(data)) as Answer;
    if (answer.id !== undefined) waiting.get(answer.id)?.(answer);
  });
  await new Promise<void>((resolve) => {
    socket.addEventListener('open', () => resolve(), { once: true });
    socket.addEventListener('close', () => {
      resolve();
      for (const give of waiting.values()) give(gone);
    });
  });
  const ask = async (method: string, params: object = {}): Promise<unknown> => {
    sent += 1;
    const id = sent;
    const answer = await new Promise<Answer>((resolve) => {
      if (socket.readyState !== WebSocket.OPEN) resolve(gone);
      waiting.set(id, resolve);
      socket.send(JSON.stringify({ id, method, params }));
    });
    waiting.delete(id);
    assert.equal(answer.error, undefined, `${method}: ${answer.error?.message}`);
    return answer.result?.result?.value;
  };
  try {
    // The second collection takes what finalizers of the first set free.
    for (let i = 0; i < 2; i += 1) await ask('HeapProfiler.collectGarbage');
    const text = await ask('Runtime.evaluate', { expression: MEASURE, returnByValue: true });
    return JSON.parse(String(text)) as { pid: number; memory: ProcessMemory };
  } finally {
    socket.close();
  }
}
