// The run against a real mesh, in real time: one typist after the other, as fast as people type.
import { setTimeout as sleep } from 'node:timers/promises';
import { realClock } from '../../../clients/lsp/core/clock.ts';
import type { EngineCounts } from './counting-addon.ts';
import { ReplayEditor } from './replay-editor.ts';
import type { Explained, ReplayMesh } from './replay-mesh.ts';
import { ReplayTypist, textWithout } from './replay-typist.ts';
import type { Run } from './scripted-run.ts';
import { TappedSource } from './tapped-source.ts';
import type { Trace } from './trace.ts';

/** What was cancelled last has ended at the engine by then. */
const SETTLE_MS = 500;

export type RealRun = Run & { counts: EngineCounts; explained: Map<string, Explained> };

/** `until`: of performance.now(), from which on nothing is typed. */
export async function playReal(trace: Trace, mesh: ReplayMesh, index: number, until: number): Promise<RealRun> {
  const clock = realClock;
  const source = new TappedSource(mesh.source, clock);
  const editor = new ReplayEditor(trace, textWithout(trace), { clock, source, name: `replay-${index}` });
  const wait = async (ms: number): Promise<void> => {
    await sleep(ms);
  };
  const typist = new ReplayTypist(trace, editor, { clock, wait });
  const whole = await typist.play(until);
  await sleep(SETTLE_MS);
  const { played } = typist;
  const explained = new Map<string, Explained>();
  for (const id of new Set(played.shown.map((one) => one.id))) {
    const known = await mesh.explain(id);
    if (known) explained.set(id, known);
  }
  const { asked, inFlightMax, warms } = source;
  return { trace, played, asked, inFlightMax, warms, whole, prompts: null, counts: await mesh.counts(), explained };
}
