import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBench } from './support/scripted-mesh.ts';
import { Typist } from './support/typist.ts';

test('who asks by hand does not wait for the next try to connect; typing does', async () => {
  const bench = startBench(() => 'text');
  const typist = new Typist(bench, 'value = ');
  typist.ask();
  await bench.clock.advance(2_000);
  assert.deepEqual(bench.mesh.reconnects, []);
  typist.ask(true);
  assert.deepEqual(bench.mesh.reconnects, ['asked'], 'before anything is sent');
  await bench.clock.advance(2_000);
  assert.equal(typist.askings.at(-1)?.got?.suggestions.length, 1);
});

test('a mesh that says nothing to a request for as long as it may take is connected to anew, and is away until then', async () => {
  const bench = startBench(() => 'text', { hardDeadlineMs: 5_000 });
  const typist = new Typist(bench, 'value = ');
  bench.mesh.silent = true;
  const asked = typist.ask(true);
  await bench.clock.advance(5_000);
  assert.equal(asked.got?.reason, 'TIMEOUT');
  assert.deepEqual(bench.mesh.reconnects, ['asked', 'silent']);
  const typed = typist.key('x');
  await bench.clock.advance(0);
  assert.equal(typed.got?.reason, 'OFFLINE');
  assert.equal(bench.completer.lastFailure, 'the mesh did not answer within 5000 ms');
  bench.mesh.silent = false;
  bench.mesh.firstTextMs = 60_000; // it took the query on: it is there, and slow
  typist.ask(true);
  await bench.clock.advance(5_000);
  assert.deepEqual(bench.mesh.reconnects, ['asked', 'silent', 'asked']);
  assert.match(bench.completer.lastFailure, /had not finished after 5000 ms/);
});
