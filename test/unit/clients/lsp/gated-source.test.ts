import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InfillFailure, type InfillQuery } from '../../../../clients/lsp/core/infill-source.ts';
import type { MeshSource } from '../../../../clients/lsp/core/mesh-source.ts';
import { gatedSource } from '../../../../clients/lsp/gated-source.ts';

/** A gate before a mesh that writes down what comes through. */
function startGate() {
  const sent: string[] = [];
  const mesh = (name: string): MeshSource => ({
    async *infill() {
      sent.push(`${name} infill`);
      yield { kind: 'end', superseded: false };
    },
    capabilities: async () => {
      sent.push(`${name} capabilities`);
      return {
        ...{ infill: true, fimFamily: '', tokenizerHash: '', chunksMax: 0, endings: [] },
        ...{ contextLength: 0, infillPromptTokens: 0, modelHash: '', ready: false },
      };
    },
    report: async () => void sent.push(`${name} report`),
    warm: async () => void sent.push(`${name} warm`),
  });
  const state = { name: 'one', enabled: true, unsettled: null as Promise<void> | null };
  const gate = gatedSource({
    opened: () => mesh(state.name),
    unsettled: () => state.unsettled,
    enabled: () => state.enabled,
  });
  const query = {} as InfillQuery;
  const infill = async (signal: AbortSignal): Promise<void> => {
    for await (const _ of gate.infill(query, { signal }));
  };
  const all = (signal: AbortSignal): Promise<unknown>[] => [
    infill(signal),
    gate.capabilities('', { signal }),
    gate.report([], { signal }),
    gate.warm(query, { signal }),
  ];
  return { sent, state, all };
}

const live = (): AbortSignal => new AbortController().signal;

const cancelled = (why: RegExp) => (error: unknown) => {
  assert(error instanceof InfillFailure);
  assert.equal(error.kind, 'cancelled');
  assert.match(error.message, why);
  return true;
};

test('what comes while nothing is settled waits, and goes where the mesh is then', async () => {
  const { sent, state, all } = startGate();
  let settle: () => void = () => {};
  state.unsettled = new Promise((resolve) => {
    settle = resolve;
  });
  const asked = all(live());
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(sent, []);
  Object.assign(state, { name: 'two', unsettled: null });
  settle();
  await Promise.all(asked);
  assert.deepEqual(sent.toSorted(), ['two capabilities', 'two infill', 'two report', 'two warm']);
});

test('what may not be sent after all, or is cancelled meanwhile, is not', async () => {
  const { sent, state, all } = startGate();
  let settle: () => void = () => {};
  const wait = (): void => {
    state.unsettled = new Promise((resolve) => {
      settle = resolve;
    });
  };
  wait();
  const off = all(live());
  Object.assign(state, { enabled: false, unsettled: null });
  settle();
  for (const one of off) await assert.rejects(one, cancelled(/turned off/));
  for (const one of all(live())) await assert.rejects(one, cancelled(/turned off/));
  state.enabled = true;
  wait();
  const abort = new AbortController();
  const gone = all(abort.signal);
  abort.abort();
  for (const one of gone) await assert.rejects(one, cancelled(/before it was sent/), 'at once');
  for (const one of all(abort.signal)) await assert.rejects(one, cancelled(/before it was sent/));
  assert.deepEqual(sent, []);
});
