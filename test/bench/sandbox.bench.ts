// What a sandbox costs: added time over a bare spawn, and trivial sandboxes per second with eight in flight.
//   npm run bench:sandbox [-- --runs 200 --seconds 5 --in-flight 8 --pause-ms 100]
// Started as root it gives root up in the process that launches, as the service does.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createLog } from '#kit/log.ts';
import { openJail } from '../../services/tools/jail/jail.ts';
import { giveUpRoot } from '../../services/tools/jail/privileges.ts';
import type { Jail, SandboxCommand, SandboxEnd } from '../../services/tools/jail/sandbox.ts';
import { findToolchain } from '../../services/tools/jail/toolchain.ts';

const ADDED_P50_MAX_MS = 12;
const PER_SECOND_MIN = 100;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '5' },
    'in-flight': { type: 'string', default: '8' },
    'pause-ms': { type: 'string', default: '100' },
  },
});

const MIB = 1024 ** 2;
const limits = {
  wallMs: 30_000,
  cpuMs: 30_000,
  memoryBytes: 512 * MIB,
  pids: 128,
  openFiles: 256,
  fileBytes: 64 * MIB,
  outputBytes: 8 * MIB,
  tmpBytes: 64 * MIB,
};

function commandOf(...argv: string[]): SandboxCommand {
  return { argv, env: {}, stdin: null, workspace: null, binds: [], network: 'none', limits };
}

const sink = { write: (): boolean => true, drained: async (): Promise<void> => {} };
const { signal } = new AbortController();

async function sandboxed(jail: Jail, ...argv: string[]): Promise<SandboxEnd> {
  const end = await jail.run(commandOf(...argv), { signal, output: sink });
  if (end.exitCode !== 0) throw new Error(`the sandbox ended otherwise: ${JSON.stringify(end)}`);
  return end;
}

async function bare(program: string, ...args: string[]): Promise<void> {
  const child = spawn(program, args, { env: {}, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  child.stdout.resume();
  child.stderr.resume();
  await once(child, 'close');
}

type Spread = { p50: number; p95: number };

function spread(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p95: at(0.95) };
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const since = performance.now();
  await action();
  return performance.now() - since;
}

type Series = { name: string; runs: number; pauseMs: number };

/**
 * Turn by turn, so that a change of the machine's load meets both. The pause before each is for what the service does between
 * calls; without one a bare spawn waits for it as well, and seems to cost more than it does.
 */
async function benchAdded(jail: Jail, argv: [string, ...string[]], { name, runs, pauseMs }: Series): Promise<number> {
  const inside: number[] = [];
  const outside: number[] = [];
  const setup: number[] = [];
  for (let i = 0; i < runs; i++) {
    await sleep(pauseMs);
    outside.push(await timed(() => bare(...argv)));
    await sleep(pauseMs);
    inside.push(await timed(async () => setup.push((await sandboxed(jail, ...argv)).setupNs / 1e6)));
  }
  const [a, b, c] = [spread(inside), spread(outside), spread(setup)];
  const cell = ({ p50, p95 }: Spread): string => `${p50.toFixed(1)} / ${p95.toFixed(1)}`.padStart(16);
  const added = a.p50 - b.p50;
  process.stdout.write(`${name.padEnd(16)}${cell(b)}${cell(a)}${cell(c)}${added.toFixed(1).padStart(11)}\n`);
  return added;
}

async function benchRate(jail: Jail, seconds: number, inFlight: number): Promise<number> {
  let done = 0;
  const since = performance.now();
  const until = since + seconds * 1_000;
  async function lane(): Promise<void> {
    while (performance.now() < until) {
      await sandboxed(jail, '/usr/bin/true');
      done++;
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane));
  return done / ((performance.now() - since) / 1_000);
}

async function main(): Promise<void> {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const stateDir = mkdtempSync(join(tmpdir(), 'quern-bench-'));
  const toolchain = findToolchain();
  const { cgroups } = giveUpRoot({ folders: [stateDir] });
  const log = createLog({ service: 'bench', level: 'warn' });
  const options = {
    log,
    stateDir,
    bwrap: '/usr/bin:/bin',
    cgroups,
    allowMissingCgroup: true,
    toolchain,
    proxySocket: null,
  };
  const jail = await openJail(options, { signal });
  const { tier, list } = jail.capabilities();
  if (tier === null) throw new Error(`no sandbox here: ${JSON.stringify(list.filter(({ available }) => !available))}`);
  process.stdout.write(
    `${cpus()[0]?.model.trim()}, ${cpus().length} cores, Linux ${release()}, ${process.version}, ${commit}\n`,
  );
  process.stdout.write(
    `tier ${tier}, ${list.find(({ name }) => name === 'cgroup')?.detail}; load ${loadavg()[0]!.toFixed(2)}\n\n`,
  );
  process.stdout.write('p50 / p95 ms                bare         sandbox           setup  added p50\n');
  const runs = Number(values.runs);
  for (let i = 0; i < 20; i++) await sandboxed(jail, '/usr/bin/true');
  const pauseMs = Number(values['pause-ms']);
  const added = await benchAdded(jail, ['/usr/bin/true'], { name: 'true', runs, pauseMs });
  await benchAdded(jail, ['/usr/bin/true'], { name: 'true, no pause', runs, pauseMs: 0 });
  const { bash, python } = toolchain.interpreters;
  if (bash) await benchAdded(jail, [bash, '-c', 'true'], { name: 'bash', runs: Math.ceil(runs / 4), pauseMs });
  if (python) await benchAdded(jail, [python, '-c', 'pass'], { name: 'python', runs: Math.ceil(runs / 4), pauseMs });
  const inFlight = Number(values['in-flight']);
  const rate = await benchRate(jail, Number(values.seconds), inFlight);
  process.stdout.write(
    `\n${rate.toFixed(1)} sandboxes/s with ${inFlight} in flight; load ${loadavg()[0]!.toFixed(2)}\n`,
  );
  process.stdout.write(
    `bars: added ${added.toFixed(1)} <= ${ADDED_P50_MAX_MS} ms: ${added <= ADDED_P50_MAX_MS ? 'held' : 'missed'}; `,
  );
  process.stdout.write(`${rate.toFixed(1)} >= ${PER_SECOND_MIN}/s: ${rate >= PER_SECOND_MIN ? 'held' : 'missed'}\n`);
  await jail.close();
  rmSync(stateDir, { recursive: true, force: true });
}

await main();
