/** How far a bench is: a bar at a terminal, and where it is piped a line every few seconds, also while nothing ends. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { startProgress } from '../../../services/cli/bench/progress.ts';

function start(t: TestContext, isTTY: boolean, total: number) {
  t.mock.timers.enable({ apis: ['setInterval'] });
  let ms = 0;
  const written: string[] = [];
  const stderr = { isTTY, write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
  const progress = startProgress({ stderr }, 'qa over grpc', total, () => ms);
  const pass = (seconds: number): void => {
    ms += seconds * 1000;
    t.mock.timers.tick(seconds * 1000);
  };
  return { progress, written, pass };
}

test('piped: a line every five seconds, and none after the end', (t) => {
  const { progress, written, pass } = start(t, false, 32);
  pass(5);
  progress.begin();
  progress.step();
  progress.step();
  assert.deepEqual(written, ['qa over grpc: warming up after 5 s\n']);
  pass(5);
  pass(5);
  progress.end();
  pass(60);
  assert.deepEqual(written.slice(1), [
    'qa over grpc: 2 of 32 requests after 10 s\n',
    'qa over grpc: 2 of 32 requests after 15 s\n',
  ]);
});

test('at a terminal: a bar that is drawn again with each request and goes at the end', (t) => {
  const { progress, written, pass } = start(t, true, 3);
  progress.begin();
  progress.step();
  pass(60);
  progress.end();
  assert.deepEqual(written, [`\r[${'#'.repeat(10)}${'.'.repeat(20)}] 1/3`, '\r\u001b[K']);
});
