// The run without a mesh: time is turned by hand, and what a model would say is scripted. The same in every run, in seconds.
import type { InfillEvent, InfillQuery } from '../../../clients/lsp/core/infill-source.ts';
import { InfillFailure } from '../../../clients/lsp/core/infill-source.ts';
import type { MeshSource } from '../../../clients/lsp/core/mesh-source.ts';
import { VirtualClock } from '../../unit/clients/lsp/support/virtual-clock.ts';
import { PromptCache, type PromptModel } from './prompt-cache.ts';
import { seeded } from './random.ts';
import { ReplayEditor } from './replay-editor.ts';
import { type Played, ReplayTypist, textWithout } from './replay-typist.ts';
import { type Asked, TappedSource } from './tapped-source.ts';
import type { Trace } from './trace.ts';

/** What quern-mini takes on two CPU cores, and how often the script is right. */
const FIRST_TEXT_MS = 12;
const STEP_MS = 1.3;
const CHARS_PER_STEP = 3;
const RIGHT_SHARE = 0.15;
/** Of the texts that are wrong, so many end soon. */
const SHORT_SHARE = 0.6;
/** As quern-mini's. */
const CONTEXT_LENGTH = 2_048;
const PROMPT_TOKENS = 448;

export type Run = {
  trace: Trace;
  played: Played;
  asked: Asked[];
  inFlightMax: number;
  warms: number;
  whole: boolean;
  /** Tokens of the prompts, and how many of them a cache would have had; null: they were not counted. */
  prompts: { tokens: number; cached: number } | null;
};

/** Goes on as the trace does, or as it does elsewhere; which, follows from the place. */
function scriptedText(trace: Trace, { prefix, suffix, singleLine }: InfillQuery): string {
  const random = seeded(trace.seed, 'script', prefix.length, suffix.length);
  const last = prefix.slice(-24);
  const found = trace.text.indexOf(last);
  const isRight = found >= 0 && random.next() < RIGHT_SHARE;
  const from = isRight ? found + last.length : random.below(Math.max(1, trace.text.length - 120));
  const isShort = !isRight && random.next() < SHORT_SHARE;
  const text = trace.text.slice(from, from + (isShort ? 4 + random.below(16) : 40 + random.below(120)));
  return singleLine ? (text.split('\n').find((line) => line.trim() !== '') ?? '') : text;
}

function scriptedSource(trace: Trace, clock: VirtualClock, prompts: PromptCache | null): MeshSource {
  const wait = (ms: number, signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const stop = clock.after(ms, () => {
        signal.removeEventListener('abort', gone);
        resolve();
      });
      const gone = (): void => {
        stop();
        reject(new InfillFailure('cancelled', 'cancelled'));
      };
      signal.addEventListener('abort', gone, { once: true });
      if (signal.aborted) gone();
    });
  async function* infill(query: InfillQuery, { signal }: { signal: AbortSignal }): AsyncGenerator<InfillEvent> {
    prompts?.take(query);
    await wait(4, signal);
    yield { kind: 'accepted', traceId: query.traceId };
    await wait(FIRST_TEXT_MS, signal);
    const text = scriptedText(trace, query);
    for (let at = 0; at < text.length; at += CHARS_PER_STEP) {
      yield { kind: 'delta', index: 0, text: text.slice(at, at + CHARS_PER_STEP) };
      await wait(STEP_MS, signal);
    }
    yield { kind: 'finished', index: 0, cut: false, scopeEnded: false };
    yield { kind: 'end', superseded: false };
  }
  return {
    infill,
    capabilities: () =>
      Promise.resolve({
        ...{ infill: true, fimFamily: 'scripted', tokenizerHash: 'scripted', modelHash: 'scripted', ready: true },
        ...{ chunksMax: 64, endings: [], contextLength: CONTEXT_LENGTH, infillPromptTokens: PROMPT_TOKENS },
      }),
    report: () => Promise.resolve(),
    warm: (_query, { signal }) => wait(FIRST_TEXT_MS, signal),
  };
}

/** `model`: whose prompts are counted; null: nobody's. */
export async function playScripted(trace: Trace, model: PromptModel | null): Promise<Run> {
  const clock = new VirtualClock();
  const cache = model && new PromptCache(model);
  const source = new TappedSource(scriptedSource(trace, clock, cache), clock);
  const editor = new ReplayEditor(trace, textWithout(trace), { clock, source, name: 'scripted' });
  const typist = new ReplayTypist(trace, editor, { clock, wait: (ms) => clock.advance(ms) });
  const whole = await typist.play();
  await clock.advance(60_000);
  if (clock.pending > 0) throw new Error(`${trace.name}: ${clock.pending} timers are left behind`);
  const { asked, inFlightMax, warms } = source;
  const prompts = cache && { tokens: cache.tokens, cached: cache.cached };
  return { trace, played: typist.played, asked, inFlightMax, warms, whole, prompts };
}
