/** What a process of the egress guard can do beside its work; guard-fork.test.ts starts it. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';

function tried(step: () => unknown): string {
  try {
    step();
    return 'worked';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'failed';
  }
}

process.once('message', (secret: string) => {
  process.send?.({
    own: tried(() => readFileSync(import.meta.filename)),
    secret: tried(() => readFileSync(secret)),
    environ: tried(() => readFileSync('/proc/self/environ')),
    write: tried(() => writeFileSync(import.meta.filename, '')),
    spawn: tried(() => spawnSync('/bin/true')),
    worker: tried(() => new Worker('0', { eval: true })),
    environment: Object.keys(process.env),
  });
});
