// A mesh on a virtual clock: it says what a script says, so fast as it is told, and remembers what it was asked.
import { CapabilityBook, type CapabilitySource } from '../../../../../clients/lsp/core/capabilities.ts';
import { Completer, type CompleterParts } from '../../../../../clients/lsp/core/completer.ts';
import { Documents } from '../../../../../clients/lsp/core/documents.ts';
import {
  type InfillEvent,
  InfillFailure,
  type InfillQuery,
  type InfillSource,
  type ReconnectReason,
} from '../../../../../clients/lsp/core/infill-source.ts';
import { defaultSettings, type Settings } from '../../../../../clients/lsp/core/settings.ts';
import { VirtualClock } from './virtual-clock.ts';

export type Asked = {
  query: InfillQuery;
  at: number;
  outcome: 'running' | 'cancelled' | 'ended' | 'failed';
  signal: AbortSignal;
};

export type Script = (query: InfillQuery, choice: number) => string;

export class ScriptedMesh implements InfillSource {
  readonly asked: Asked[] = [];
  script: Script;
  firstTextMs = 100;
  /** Of its model, as far as it tells; 0 = it does not. */
  contextLength = 0;
  /** Says that it ended every text with its scope. */
  endsScopes = false;
  stepMs = 10;
  charsPerStep = 4;
  fails: InfillFailure | null = null;
  /** Why it was connected to anew. */
  readonly reconnects: ReconnectReason[] = [];
  /** Does not even say that it took a query on. */
  silent = false;
  failsFor: (query: InfillQuery) => InfillFailure | null = () => this.fails;
  runningMax = 0;
  /** Queries that would have ended another one at a mesh, as both had the same supersede key. */
  clashes = 0;
  readonly #clock: VirtualClock;

  constructor(clock: VirtualClock, script: Script) {
    this.#clock = clock;
    this.script = script;
  }

  get running(): number {
    return this.asked.filter(({ outcome }) => outcome === 'running').length;
  }

  async *infill(query: InfillQuery, { signal }: { signal: AbortSignal }): AsyncGenerator<InfillEvent> {
    const asked: Asked = { query, at: this.#clock.now(), outcome: 'running', signal };
    const isOpen = (other: Asked): boolean => other.outcome === 'running' && !other.signal.aborted;
    if (this.asked.some((other) => isOpen(other) && other.query.supersedeKey === query.supersedeKey)) this.clashes++;
    this.asked.push(asked);
    this.runningMax = Math.max(this.runningMax, this.running);
    try {
      const failure = this.failsFor(query);
      if (failure) throw failure;
      await this.#wait(this.silent ? Number.MAX_SAFE_INTEGER : 1, signal);
      yield { kind: 'accepted', traceId: `trace-${query.requestId}` };
      await this.#wait(this.firstTextMs, signal);
      const texts = Array.from({ length: query.candidates }, (_, choice) => this.script(query, choice));
      const longest = Math.max(...texts.map((text) => text.length));
      for (let at = 0; at < longest; at += this.charsPerStep) {
        for (const [index, text] of texts.entries()) {
          const part = text.slice(at, at + this.charsPerStep);
          if (part !== '') yield { kind: 'delta', index, text: part };
        }
        await this.#wait(this.stepMs, signal);
      }
      for (const index of texts.keys()) yield { kind: 'finished', index, cut: false, scopeEnded: this.endsScopes };
      asked.outcome = 'ended';
      yield { kind: 'end', superseded: false };
    } catch (error) {
      asked.outcome = signal.aborted ? 'cancelled' : 'failed';
      throw error;
    } finally {
      if (asked.outcome === 'running') asked.outcome = 'cancelled';
    }
  }

  reconnect(why: ReconnectReason): void {
    this.reconnects.push(why);
  }

  #wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (): void => reject(new InfillFailure('cancelled', 'cancelled'));
      if (signal.aborted) return fail();
      const stop = this.#clock.after(ms, () => {
        signal.removeEventListener('abort', gone);
        resolve();
      });
      const gone = (): void => {
        stop();
        fail();
      };
      signal.addEventListener('abort', gone, { once: true });
    });
  }
}

export type Bench = {
  clock: VirtualClock;
  mesh: ScriptedMesh;
  documents: Documents;
  completer: Completer;
  settings: Settings;
};

/** A completer between a scripted mesh and documents. */
export function startBench(
  script: Script,
  more: Partial<Settings> = {},
  parts: Partial<CompleterParts> = {},
  abilities: CapabilitySource | null = null,
): Bench {
  const clock = new VirtualClock();
  const mesh = new ScriptedMesh(clock, script);
  const documents = new Documents();
  const bench = { clock, mesh, documents, settings: { ...defaultSettings, speculate: false, ...more } };
  let count = 0;
  const completer = new Completer({
    clock,
    documents,
    source: mesh,
    capabilities: new CapabilityBook(clock, abilities),
    settings: () => bench.settings,
    newId: () => `id-${count++}`,
    newTraceId: () => `${count}`.padStart(32, '0'),
    describe: () => ({ path: 'a.py', repository: 'project' }),
    chunksFor: () => [],
    ...parts,
  });
  return Object.assign(bench, { completer });
}
