// Stands where the engine's addon is looked for, passes everything on, and counts: what each request took and made, and how many
// steps of the model a cancelled one still had. The process that started the engine asks for the counts.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { NativeEngineOptions, NativeModel, NativeRequest } from '../../../services/engine/native.ts';
import { decodeSteps, type NativeRun, type NativeStep } from '../../../services/engine/step-decoder.ts';

type Handle = object;
type Addon = {
  createEngine(
    options: NativeEngineOptions,
    onBatch: (words: Uint32Array) => void,
    onProgress: (phase: string, done: number, total: number) => void,
  ): Handle;
  openEngine(handle: Handle): Promise<NativeModel>;
  closeEngine(handle: Handle): Promise<void>;
  submit(handle: Handle, request: NativeRequest): Error | null;
  cancel(handle: Handle, id: number): void;
  drain(handle: Handle): void;
  load(handle: Handle): object;
};

/** One request as the engine had it. */
export type EngineRow = {
  /** 1..6, as quern.common.v1.PriorityClass. */
  priorityClass: number;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  queueMs: number;
  prefillMs: number;
  decodeMs: number;
  /** Number of quern.common.v1.FinishReason. */
  reason: number;
  /**
   * Steps of the model that it took part in and that ended behind its cancel, the one that ran at the cancel among them; null:
   * nobody cancelled it here (a newer request may have taken its place).
   */
  stepsAfterCancel: number | null;
  /** From its cancel to its end, in milliseconds; null likewise. */
  cancelMs: number | null;
};

export type EngineCounts = { rows: EngineRow[]; steps: number; forwardMs: number };

type Live = { priorityClass: number; cancelledAt: number | null; stepsAfter: number };

const path = fileURLToPath(new URL('../../../engine-native/build/engine_addon.node', import.meta.url));
const addon = createRequire(import.meta.url)(path) as Addon;
const live = new Map<number, Live>();
let counts: EngineCounts = { rows: [], steps: 0, forwardMs: 0 };
/** What the engine's clock is before this process's, in milliseconds: the least seen between a step's end and its being told. */
let skewMs = Number.POSITIVE_INFINITY;

const inMs = (ns: bigint): number => Number(ns) / 1e6;

function countRun({ beginUnixNs, forwardNs, slices }: NativeRun): void {
  counts.steps++;
  counts.forwardMs += inMs(forwardNs);
  const endedAt = inMs(beginUnixNs + forwardNs) - performance.timeOrigin;
  skewMs = Math.min(skewMs, performance.now() - endedAt);
  for (let i = 0; i < slices.length; i += 3) {
    const taking = live.get(slices[i]!);
    if (taking?.cancelledAt != null && endedAt + skewMs > taking.cancelledAt) taking.stepsAfter++;
  }
}

function count(step: NativeStep): void {
  if (step.run) countRun(step.run);
  for (const end of step.finished) {
    const { priorityClass = 0, cancelledAt = null, stepsAfter = 0 } = live.get(end.id) ?? {};
    live.delete(end.id);
    const { promptTokens, cachedTokens, completionTokens, choices } = end;
    counts.rows.push({
      ...{ priorityClass, promptTokens, cachedTokens, completionTokens },
      ...{ queueMs: inMs(end.queueNs), prefillMs: inMs(end.prefillNs), decodeMs: inMs(end.decodeNs) },
      reason: choices[0]?.reason ?? 0,
      stepsAfterCancel: cancelledAt === null ? null : stepsAfter,
      cancelMs: cancelledAt === null ? null : performance.now() - cancelledAt,
    });
  }
}

export const createEngine: Addon['createEngine'] = (options, onBatch, onProgress) =>
  addon.createEngine(
    options,
    (words) => {
      for (const step of decodeSteps(words)) count(step);
      onBatch(words);
    },
    onProgress,
  );

export const submit: Addon['submit'] = (handle, request) => {
  const refusal = addon.submit(handle, request);
  if (!refusal) live.set(request.id, { priorityClass: request.priorityClass, cancelledAt: null, stepsAfter: 0 });
  return refusal;
};

export const cancel: Addon['cancel'] = (handle, id) => {
  const known = live.get(id);
  if (known) known.cancelledAt ??= performance.now();
  addon.cancel(handle, id);
};

export const openEngine: Addon['openEngine'] = (handle) => addon.openEngine(handle);
export const closeEngine: Addon['closeEngine'] = (handle) => addon.closeEngine(handle);
export const drain: Addon['drain'] = (handle) => addon.drain(handle);
export const load: Addon['load'] = (handle) => addon.load(handle);

process.on('message', (message) => {
  if (message !== 'take counts') return;
  process.send?.({ type: 'counts', counts });
  counts = { rows: [], steps: 0, forwardMs: 0 };
});
