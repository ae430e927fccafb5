/** A jail that runs nothing: the command's words say what happens. */
import { setTimeout as sleep } from 'node:timers/promises';
import { QuernError } from '#kit/errors.ts';
import type {
  Capabilities,
  Jail,
  KillReason,
  OutputSink,
  SandboxCommand,
  SandboxEnd,
} from '../../../../services/tools/jail/sandbox.ts';

const END: SandboxEnd = {
  exitCode: 0,
  signal: null,
  killed: null,
  setupFailure: null,
  setupNs: 1_000_000,
  runNs: 2_000_000,
  cpuNs: 1_500_000,
  maxMemoryBytes: 4096,
  stdoutBytes: 0,
  stderrBytes: 0,
};

export type FakeJail = Jail & {
  tier: Capabilities['tier'];
  readonly ran: SandboxCommand[];
  /** Most commands at once. */
  peak: number;
};

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** Words: exit N · killed REASON · setup-fails · unavailable · throws · sleep MS · forever · say TEXT · flood BYTES. */
export function createFakeJail(): FakeJail {
  let running = 0;
  async function script(
    words: readonly string[],
    output: OutputSink,
    signal: AbortSignal,
  ): Promise<Partial<SandboxEnd>> {
    let stdoutBytes = 0;
    for (let at = 0; at < words.length; at += 2) {
      const [word, value = ''] = [words[at], words[at + 1]];
      if (signal.aborted) return { killed: 'cancelled', exitCode: null, signal: 'SIGKILL', stdoutBytes };
      if (word === 'refused') return { exitCode: 0, stdoutBytes, pidsRefused: Number(value) };
      if (word === 'exit') return { exitCode: Number(value), stdoutBytes };
      if (word === 'signal') return { exitCode: null, signal: value as NodeJS.Signals, stdoutBytes };
      if (word === 'killed') return { killed: value as KillReason, exitCode: null, signal: 'SIGKILL', stdoutBytes };
      if (word === 'say' || word === 'complain') {
        stdoutBytes += Buffer.byteLength(value);
        output.write(word === 'say' ? 'stdout' : 'stderr', Buffer.from(value));
      }
      if (word === 'flood') {
        for (let left = Number(value); left > 0 && !signal.aborted; left -= 16_384) {
          const piece = Buffer.alloc(Math.min(16_384, left), 'x');
          stdoutBytes += piece.length;
          if (!output.write('stdout', piece)) await Promise.race([output.drained(), aborted(signal)]);
        }
      }
      if (word === 'sleep') await Promise.race([sleep(Number(value)), aborted(signal)]);
      if (word === 'forever') await aborted(signal);
      if (signal.aborted) return { killed: 'cancelled', exitCode: null, signal: 'SIGKILL', stdoutBytes };
    }
    return { stdoutBytes };
  }
  const jail: FakeJail = {
    tier: 'A',
    ran: [],
    peak: 0,
    async run(command, { signal, output, onStart }) {
      if (jail.tier === null) {
        throw new QuernError('FAILED_PRECONDITION', 'no sandbox here; install bubblewrap', {
          reason: 'SANDBOX_UNAVAILABLE',
        });
      }
      const [, ...words] = command.argv;
      if (words[0] === 'throws') throw new Error('a bug');
      if (words[0] === 'setup-fails') return { ...END, exitCode: null, setupFailure: 'mount refused' };
      jail.ran.push(command);
      running += 1;
      jail.peak = Math.max(jail.peak, running);
      onStart?.(END.setupNs);
      try {
        return { ...END, ...(await script(words, output, signal)) };
      } finally {
        running -= 1;
      }
    },
    open: () => {
      throw new Error('not used here');
    },
    capabilities: () => ({
      tier: jail.tier,
      list: [
        { name: 'seccomp', available: jail.tier !== null, detail: 'seen', remedy: jail.tier === null ? 'install' : '' },
        { name: 'bubblewrap', available: jail.tier !== null, detail: '0.8.0', remedy: '' },
      ],
      probedUnixMs: Date.now(),
    }),
    probe: async () => jail.capabilities(),
    get running() {
      return running;
    },
    close: async () => {},
  };
  return jail;
}
