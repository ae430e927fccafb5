// 20,000 cancels at 500/s on one connection beside 20 streams, then 2,000 requests with random cancels, disconnects,
// deadlines, bad inputs and broken engine sessions. Prints what was left behind; exits 1 when anything was.
//   node --expose-gc test/faults/cancel-storm.ts [cancels] [requests] [seed]
import { startMesh } from '../contract/gateway/fakes/mesh.ts';
import { CHAOS_SCRIPT, cancelStorm, chaos } from './gateway-load.ts';

const HEAP_GROWTH_MIB_MAX = 24;

const cleanups: (() => unknown)[] = [];
const scope = { after: (cleanup?: unknown) => void cleanups.push(cleanup as () => unknown) };
const cancels = Number(process.argv[2] ?? 20_000);
const requests = Number(process.argv[3] ?? 2_000);
const seed = Number(process.argv[4] ?? Math.floor(Math.random() * 1_000_000));
let failed = false;

const storm = await startMesh(scope, { engine: { stepMs: 10 } });
const stormed = await cancelStorm(storm, { cancels, perSecond: 500, bystanders: 20 });
process.stdout.write(`${JSON.stringify(stormed)}\n`);
failed ||= stormed.deaths > 0 || Object.values(stormed.left).some((count) => count > 0);
failed ||= stormed.heapEndMib - stormed.heapStartMib > HEAP_GROWTH_MIB_MAX;

const mesh = await startMesh(scope, { engines: 2, engine: { stepMs: 2, script: () => CHAOS_SCRIPT } });
const chaotic = await chaos(mesh, { requests, concurrency: 48, breakEvery: 100, seed });
process.stdout.write(`${JSON.stringify(chaotic, null, 1)}\n`);
failed ||= chaotic.wrong.length > 0 || Object.values(chaotic.left).some((count) => count > 0);
failed ||= chaotic.heapEndMib - chaotic.heapStartMib > HEAP_GROWTH_MIB_MAX;

for (const cleanup of cleanups.reverse()) await cleanup();
process.stdout.write(failed ? 'FAILED\n' : 'nothing left behind\n');
process.exitCode = failed ? 1 : 0;
