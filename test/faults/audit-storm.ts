// Chaos on the way of audit records at full length; audit-chaos.test.ts is its short form. Prints what was killed and what the
// log holds; exits 1 when a request is lost, doubled or unfinished, or the log does not verify.
//   npm run chaos:audit [-- SECONDS SEED]
import { auditChaos } from './audit-chaos.ts';

const seconds = Number(process.argv[2] ?? 600);
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 1_000_000));
const cleanups: (() => unknown)[] = [];
const scope = { after: (cleanup?: unknown) => void cleanups.push(cleanup as () => unknown) };
const say = (line: string): void => void process.stdout.write(`${line}\n`);

say(`${seconds} s, seed ${seed}`);
try {
  const report = await auditChaos(scope, { seconds, seed, concurrency: 8, say });
  say(JSON.stringify(report, null, 1));
  const isOk = report.wrong.length === 0 && report.verdict === 'ok' && report.verdictOfTrusted === 'ok';
  say(isOk ? 'nothing lost, nothing doubled, the log verifies' : 'FAILED');
  process.exitCode = isOk ? 0 : 1;
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup();
}
