// What a command writes, on its way to the sink: counted, bounded, and held back while the sink is full.
import type { Readable } from 'node:stream';
import { SETUP_TEXT_MAX_BYTES } from './limits.ts';
import type { OutputSink } from './sandbox.ts';

type Stream = 'stdout' | 'stderr';

export type OutputPump = {
  /** Bytes that have come, counted on. */
  readonly counts: Readonly<Record<Stream, number>>;
  /** What came on stderr before open(), which is bubblewrap's, and its first part after. */
  errorText(): string;
  /** From here on output is the command's and goes to the sink. */
  open(): void;
  /** Settles when both streams have ended and all is delivered, or when stop() was called. */
  readonly ended: Promise<void>;
  /** Nothing more reaches the sink. */
  stop(): void;
};

type Part = { readonly name: Stream; readonly data: Uint8Array };

/**
 * Starts to read. `onLimit` is called once when more than `bytesMax` came; `onBroken` when the sink fails. At most the
 * first bytesMax bytes reach the sink.
 */
export function pumpOutput(
  streams: Readonly<Record<Stream, Readable>>,
  sink: OutputSink,
  options: { readonly bytesMax: number; readonly onLimit: () => void; readonly onBroken: () => void },
): OutputPump {
  const counts = { stdout: 0, stderr: 0 };
  const { promise: ended, resolve: setEnded } = Promise.withResolvers<void>();
  /** Came while the sink was full: Node resumes paused pipes when a child exits, so a socket's worth can still come. */
  let waiting: Part[] = [];
  let errorText = '';
  let readable = 2;
  let state: 'early' | 'open' | 'full' | 'stopped' = 'early';

  function stop(): void {
    state = 'stopped';
    waiting = [];
    for (const stream of Object.values(streams)) stream.destroy();
    setEnded();
  }

  function settle(): void {
    if (readable === 0 && waiting.length === 0 && state !== 'full') setEnded();
  }

  function broken(): void {
    if (state === 'stopped') return;
    stop();
    options.onBroken();
  }

  function hold(): void {
    state = 'full';
    for (const stream of Object.values(streams)) stream.pause();
    sink.drained().then(resume, broken);
  }

  function resume(): void {
    if (state !== 'full') return;
    state = 'open';
    while (waiting.length > 0 && state === 'open') deliver(waiting.shift()!);
    if (state === 'open') for (const stream of Object.values(streams)) stream.resume();
    settle();
  }

  function deliver({ name, data }: Part): void {
    try {
      if (!sink.write(name, data)) hold();
    } catch {
      broken();
    }
  }

  function take(name: Stream, data: Uint8Array): void {
    if (state === 'stopped') return;
    if (name === 'stderr' && errorText.length < SETUP_TEXT_MAX_BYTES) {
      errorText += Buffer.from(data.subarray(0, SETUP_TEXT_MAX_BYTES)).toString();
    }
    if (state === 'early') return;
    const left = options.bytesMax - counts.stdout - counts.stderr;
    counts[name] += data.length;
    const part = { name, data: data.length > left ? data.subarray(0, left) : data };
    if (part.data.length > 0) {
      if (state === 'full') waiting.push(part);
      else deliver(part);
    }
    if (data.length > left) {
      stop();
      options.onLimit();
    }
  }

  for (const name of ['stdout', 'stderr'] as const) {
    streams[name].on('data', (data: Uint8Array) => take(name, data));
    streams[name].on('close', () => {
      readable--;
      settle();
    });
  }
  return {
    counts,
    errorText: () => errorText,
    open() {
      if (state === 'early') state = 'open';
    },
    ended,
    stop,
  };
}
