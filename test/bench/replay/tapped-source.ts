// Writes down what the client asks of a mesh and what comes back, without changing either.
import type { Clock } from '../../../clients/lsp/core/clock.ts';
import type { InfillEvent, InfillQuery, Priority } from '../../../clients/lsp/core/infill-source.ts';
import type { MeshSource } from '../../../clients/lsp/core/mesh-source.ts';

export type Asked = {
  id: string;
  priority: Priority;
  /** Milliseconds of the clock; null = it did not come to that. */
  sentAt: number;
  acceptedAt: number | null;
  firstTextAt: number | null;
  endedAt: number | null;
  outcome: 'running' | 'ended' | 'cancelled' | 'failed';
  /** Of its text, in UTF-16 units. */
  chars: number;
  /** What was sent: files beside it, before and behind the cursor. */
  sent: { chunks: number; prefix: number; suffix: number };
};

export class TappedSource implements MeshSource {
  readonly asked: Asked[] = [];
  warms = 0;
  /** Most queries that ran at once. */
  inFlightMax = 0;
  readonly #source: MeshSource;
  readonly #clock: Clock;
  readonly #open = new Set<Asked>();

  constructor(source: MeshSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
  }

  async *infill(query: InfillQuery, { signal }: { signal: AbortSignal }): AsyncGenerator<InfillEvent> {
    const { requestId: id, priority, prefix, suffix, chunks } = query;
    const size = chunks.reduce((sum, { path, text }) => sum + path.length + text.length, 0);
    const asked: Asked = {
      ...{ id, priority, sentAt: this.#clock.now(), acceptedAt: null, firstTextAt: null, endedAt: null },
      ...{ outcome: 'running', chars: 0, sent: { chunks: size, prefix: prefix.length, suffix: suffix.length } },
    };
    this.asked.push(asked);
    this.#open.add(asked);
    this.inFlightMax = Math.max(this.inFlightMax, this.#open.size);
    const close = (outcome: Asked['outcome']): void => {
      if (!this.#open.delete(asked)) return;
      Object.assign(asked, { outcome, endedAt: this.#clock.now() });
    };
    const cancelled = (): void => close('cancelled');
    signal.addEventListener('abort', cancelled, { once: true });
    try {
      for await (const event of this.#source.infill(query, { signal })) {
        if (event.kind === 'accepted') asked.acceptedAt = this.#clock.now();
        else if (event.kind === 'delta') {
          asked.firstTextAt ??= this.#clock.now();
          asked.chars += event.text.length;
        } else if (event.kind === 'end') close(event.superseded ? 'cancelled' : 'ended');
        yield event;
      }
    } catch (error) {
      close('failed');
      throw error;
    } finally {
      signal.removeEventListener('abort', cancelled);
      close('ended'); // the client had enough of it
    }
  }

  capabilities(...given: Parameters<MeshSource['capabilities']>) {
    return this.#source.capabilities(...given);
  }

  report(...given: Parameters<MeshSource['report']>) {
    return this.#source.report(...given);
  }

  warm(...given: Parameters<MeshSource['warm']>): Promise<void> {
    this.warms++;
    return this.#source.warm(...given);
  }
}
