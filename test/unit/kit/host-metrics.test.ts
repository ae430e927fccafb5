import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { memoryOf, zombieChildren } from '#kit/host-metrics.ts';
import { createMetrics } from '#kit/metrics.ts';

test('memory is read from the lines of /proc/meminfo', () => {
  const text = 'MemTotal:       24000000 kB\nMemFree:        1 kB\nMemAvailable:   12000000 kB\n';
  assert.equal(memoryOf(text, 'MemTotal'), 24_000_000 * 1024);
  assert.equal(memoryOf(text, 'MemAvailable'), 12_000_000 * 1024);
  assert.equal(memoryOf(text, 'SwapTotal'), null);
});

test('zombies are the children of all threads in state Z', async (t) => {
  const proc = mkdtempSync(join(tmpdir(), 'quern-proc-'));
  t.after(() => rmSync(proc, { recursive: true }));
  const write = (path: string, text: string): void => {
    mkdirSync(join(proc, path, '..'), { recursive: true });
    writeFileSync(join(proc, path), text);
  };
  write('1/task/1/children', '7 8 ');
  write('1/task/2/children', '9 ');
  write('7/stat', '7 (a) b Z) S 1 1');
  write('8/stat', '8 (node) Z 1 1');
  write('9/stat', '9 (Z) Z 1 1');
  assert.equal(await zombieChildren(proc, 1), 2);
  assert.equal(await zombieChildren(proc, 2), null);
});

test('a process shows its host', async () => {
  const text = await createMetrics('t', { processMetrics: true }).render();
  assert.match(text, /^quern_host_load1\{service="t"\} \d/m);
  assert.match(text, /^quern_host_cpus\{service="t"\} [1-9]/m);
  assert.match(text, /^quern_host_memory_bytes\{kind="available",service="t"\} [1-9]/m);
  assert.match(text, /^process_start_time_seconds\{service="t"\} [1-9]/m);
  assert.match(text, /^nodejs_gc_duration_seconds_bucket|^nodejs_eventloop_lag_seconds/m);
});
