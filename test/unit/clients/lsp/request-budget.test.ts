import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REQUEST_BUDGET_MAX } from '../../../../clients/lsp/core/limits.ts';
import { RequestBudget } from '../../../../clients/lsp/core/request-budget.ts';
import { startBench } from './support/scripted-mesh.ts';
import { Typist } from './support/typist.ts';
import { VirtualClock } from './support/virtual-clock.ts';

test('keys earn requests up to a few, pauses earn more, and nothing is owed', async () => {
  const clock = new VirtualClock();
  const budget = new RequestBudget(clock);
  assert.equal(budget.left, REQUEST_BUDGET_MAX);
  for (let i = 0; i < 10; i++) budget.noteSent();
  assert.equal(budget.left, 0);
  for (let i = 0; i < 10; i++) budget.noteKey();
  const earned = budget.left;
  assert(earned >= 1 && earned <= 2.5, `${earned}, with 10 keys`);
  await clock.advance(2_001);
  budget.noteKey();
  assert(budget.left > earned + 1);
  for (let i = 0; i < 100; i++) budget.noteKey();
  assert.equal(budget.left, REQUEST_BUDGET_MAX);
});

test('whoever pauses a little behind every key has asked enough after a few keys; a real pause is asked about all the same', async () => {
  const bench = startBench(() => 'wrong');
  const typist = new Typist(bench, '');
  for (let i = 0; i < 100; i++) {
    typist.key('(');
    await bench.clock.advance(250);
  }
  assert(bench.mesh.asked.length <= 25, `${bench.mesh.asked.length} requests for 100 keys`);
  const before = bench.mesh.asked.length;
  for (let i = 0; i < 3; i++) {
    typist.key('(');
    await bench.clock.advance(310);
  }
  assert.equal(bench.mesh.asked.length, before + 3);
});

test('what follows a suggestion is asked for only once somebody may have read it', async () => {
  const bench = startBench(({ prefix }) => (prefix.endsWith('first') ? '.second' : 'first'), { speculate: true });
  const typist = new Typist(bench, 'x = ');
  const ahead = (): number => bench.mesh.asked.filter(({ query }) => query.priority === 'speculative').length;
  const asking = typist.ask();
  while (asking.got === null) await bench.clock.advance(1);
  await bench.clock.advance(190);
  typist.key('f');
  await bench.clock.advance(190);
  typist.key('i');
  await bench.clock.advance(190);
  assert.equal(ahead(), 0, 'typing goes on');
  await bench.clock.advance(20);
  assert.equal(ahead(), 1);
});
