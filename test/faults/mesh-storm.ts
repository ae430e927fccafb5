// Chaos against the real mesh with quern-mini at full length; mesh-chaos.test.ts is its short form. Prints what came of
// every kind of request, what was left behind and how much memory grew; exits 1 when something is wrong.
//   npm run bench:chaos [-- REQUESTS SEED]
import { findFaults, meshChaos } from './mesh-chaos.ts';

const requests = Number(process.argv[2] ?? 2_000);
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 1_000_000));
const cleanups: (() => unknown)[] = [];
const scope = { after: (cleanup?: unknown) => void cleanups.push(cleanup as () => unknown) };

process.stdout.write(`${requests} requests, seed ${seed}\n`);
try {
  const report = await meshChaos(scope, { requests, seed, concurrency: 32 });
  process.stdout.write(`${JSON.stringify(report, null, 1)}\n`);
  const faults = findFaults(report);
  for (const fault of faults) process.stdout.write(`FAILED: ${fault}\n`);
  if (faults.length === 0) process.stdout.write('nothing left behind\n');
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup();
}
