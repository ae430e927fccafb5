// The jail: finds out what this machine can do, says so, and runs commands only when every layer is there.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { type BubblewrapFound, findBubblewrap } from './bubblewrap.ts';
import { type CgroupsFound, readText } from './cgroups.ts';
import { checkCommand } from './command-check.ts';
import { writeInnerEtc } from './inner-etc.ts';
import { PROBE_INTERVAL_MS, PROBE_RETRY_MS } from './limits.ts';
import { isSameProcess, startTimeOf } from './process-status.ts';
import { nativeStart } from './program.ts';
import type {
  Capabilities,
  Capability,
  Jail,
  KillReason,
  SandboxCommand,
  SandboxEnd,
  SandboxSession,
} from './sandbox.ts';
import { type RunOptions, type RunParts, SandboxRun } from './sandbox-run.ts';
import { seccompFilter } from './seccomp-filter.ts';
import { selfTest } from './self-test.ts';
import { SpareLaunches } from './spare-launches.ts';
import { killStaleLaunches } from './stale-launches.ts';
import { closeStrayDescriptors } from './stray-descriptors.ts';
import { syscallRunner } from './syscall-runner.ts';
import type { Toolchain } from './toolchain.ts';

export type JailOptions = {
  readonly log: Log;
  /** A folder of the service's own, not on a noexec mount; what the jail puts there is gone after close(). */
  readonly stateDir: string;
  /** Where bwrap is looked for, like PATH, or its path. */
  readonly bwrap: string;
  /** What privileges.ts found. */
  readonly cgroups: CgroupsFound;
  /** The operator accepts tier A-: limits per process only. */
  readonly allowMissingCgroup: boolean;
  readonly toolchain: Toolchain;
  /** Socket of the egress proxy; null: commands with the network 'proxy' are refused. */
  readonly proxySocket: string | null;
  readonly probeIntervalMs?: number;
  /** Launches made ahead, of each kind; default SPARE_LAUNCHES. */
  readonly spareLaunches?: number;
};

const FOLDER = /^jail-/;

/** The jail's folder, named for nobody; those of services that are gone are removed first. */
function makeFolder(stateDir: string): string {
  mkdirSync(stateDir, { recursive: true });
  for (const name of readdirSync(stateDir).filter((entry) => FOLDER.test(entry))) {
    const [pid, startTime] = (readText(join(stateDir, name, 'owner')) ?? '0 0').split(' ').map(Number);
    if (!isSameProcess(pid!, startTime!)) rmSync(join(stateDir, name), { recursive: true, force: true });
  }
  const folder = mkdtempSync(join(stateDir, 'jail-'));
  writeFileSync(join(folder, 'owner'), `${process.pid} ${startTimeOf(process.pid)}`);
  writeFileSync(join(folder, 'canary'), 'a file of the host');
  writeFileSync(join(folder, 'probe'), syscallRunner(), { mode: 0o555 });
  writeInnerEtc(join(folder, 'etc'));
  return folder;
}

function fixedCapabilities(found: BubblewrapFound, options: JailOptions): Capability[] {
  const uid = process.getuid?.() ?? 0;
  const isSupported = process.platform === 'linux' && process.arch === 'x64';
  const { cgroups, toolchain } = options;
  const interpreters = Object.entries(toolchain.interpreters).map(([name, path]) => `${name} ${path ?? 'missing'}`);
  return [
    {
      name: 'platform',
      available: isSupported,
      detail: `${process.platform} ${process.arch}`,
      remedy: isSupported ? '' : 'the system call filter knows Linux on x64 only; run the tool service there',
    },
    {
      name: 'identity',
      available: uid !== 0,
      detail: `host account ${uid}`,
      remedy: uid !== 0 ? '' : 'tools never run as root: let the service give it up, or start it as another account',
    },
    {
      name: 'bubblewrap',
      available: found.ok,
      detail: found.ok ? `${found.path} ${found.version}` : found.detail,
      remedy: found.ok ? '' : found.remedy,
    },
    {
      name: 'cgroup',
      available: cgroups.ok,
      detail: cgroups.ok ? cgroups.cgroups.detail : cgroups.detail,
      remedy: cgroups.ok ? '' : cgroups.remedy,
    },
    {
      name: 'toolchain',
      available: true,
      detail: `${toolchain.root} as /usr; ${interpreters.join(', ')}`,
      remedy: toolchain.root === '/usr' ? 'in production give a curated root instead of the whole /usr' : '',
    },
  ];
}

class OpenJail implements Jail {
  readonly #options: JailOptions;
  readonly #folder: string;
  readonly #runs = new Set<SandboxRun>();
  readonly #closing = new AbortController();
  #capabilities: Capabilities = { tier: null, list: [], probedUnixMs: 0 };
  #parts: RunParts | null = null;
  #probing: Promise<Capabilities> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #failures = 0;

  constructor(options: JailOptions) {
    this.#options = options;
    this.#folder = makeFolder(options.stateDir);
  }

  get running(): number {
    return this.#runs.size;
  }

  capabilities(): Capabilities {
    return this.#capabilities;
  }

  /** A caller that leaves ends its own wait, not the test: its outcome is everybody's. */
  probe({ signal }: { signal: AbortSignal }): Promise<Capabilities> {
    if (this.#closing.signal.aborted) return Promise.reject(unavailable('the tool service is stopping'));
    this.#probing ??= this.#probe(this.#closing.signal)
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#probing = null;
        this.#probeLater();
      });
    this.#probing.catch(() => {}); // whoever asked for it may be gone
    return waitFor(this.#probing, signal);
  }

  /** A test that could not be made is a test that failed. */
  #fail(error: unknown): Capabilities {
    this.#options.log.error({ err: error }, 'the sandbox could not be tested');
    const detail = error instanceof Error ? error.message : String(error);
    const list = [{ name: 'self-test', available: false, detail, remedy: 'it is tried again; the log has the cause' }];
    this.#capabilities = { tier: null, list, probedUnixMs: Date.now() };
    return this.#capabilities;
  }

  /** A machine that could not hold a sandbox may be able to again soon: then the next tests come after seconds. */
  #probeLater(): void {
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#closing.signal.aborted) return;
    const { probeIntervalMs = PROBE_INTERVAL_MS } = this.#options;
    const isHeld = this.#capabilities.tier !== null;
    this.#failures = isHeld ? 0 : this.#failures + 1;
    const wait = isHeld
      ? probeIntervalMs
      : Math.min(PROBE_RETRY_MS * 2 ** Math.min(this.#failures - 1, 10), probeIntervalMs);
    this.#timer = setTimeout(() => void this.probe({ signal: this.#closing.signal }).catch(() => {}), wait);
    this.#timer.unref();
  }

  async run(command: SandboxCommand, options: Parameters<Jail['run']>[1]): Promise<SandboxEnd> {
    const { signal, output, onStart, diskFull, onHeldUp } = options;
    const run = this.#start(command, { output, stdin: 'given', diskFull, onHeldUp }, signal);
    run.started.then(onStart, () => {});
    return run.ended;
  }

  open(command: SandboxCommand, options: Parameters<Jail['open']>[1]): SandboxSession {
    const { signal, output, diskFull, onHeldUp } = options;
    const run = this.#start({ ...command, stdin: null }, { output, stdin: 'open', diskFull, onHeldUp }, signal);
    const started = run.started.then(() => {});
    started.catch(() => {}); // told by `ended` as well
    return {
      started,
      ended: run.ended,
      write: (data) => writeTo(run, data),
      kill: (reason: KillReason, how) => run.kill(reason, how),
    };
  }

  async close(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#closing.abort();
    await this.#probing?.catch(() => {});
    await Promise.all([...this.#runs].map((run) => run.kill('drain')));
    await this.#parts?.spares?.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #start(command: SandboxCommand, options: RunOptions, signal: AbortSignal): SandboxRun {
    if (this.#closing.signal.aborted) throw unavailable('the tool service is stopping');
    if (this.#capabilities.tier === null || this.#parts === null) throw unavailable(this.#missing());
    checkCommand(command);
    if (command.network === 'proxy' && this.#options.proxySocket === null) {
      throw new QuernError('FAILED_PRECONDITION', 'this command wants the network, and no egress proxy is configured');
    }
    const run = new SandboxRun(command, this.#parts, options);
    const cancel = (): void => void run.kill('cancelled');
    this.#runs.add(run);
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true });
    run.ended.then(() => {
      this.#runs.delete(run);
      signal.removeEventListener('abort', cancel);
    });
    return run;
  }

  #missing(): string {
    const missing = this.#capabilities.list.filter(({ available }) => !available);
    return missing.map(({ name, detail, remedy }) => `${name}: ${detail}; ${remedy}`).join('. ') || 'not tested yet';
  }

  /** What was made ahead does not outlive the test under which it was made. */
  async #replaceParts(parts: RunParts): Promise<void> {
    const before = this.#parts;
    this.#parts = parts;
    await before?.spares?.close();
  }

  async #probe(signal: AbortSignal): Promise<Capabilities> {
    const { log, cgroups, allowMissingCgroup, toolchain, proxySocket, bwrap } = this.#options;
    const found = findBubblewrap(bwrap);
    const list = fixedCapabilities(found, this.#options);
    const missing = list.filter(({ available }) => !available).map(({ name }) => name);
    const mayTest = missing.every((name) => name === 'cgroup' && allowMissingCgroup);
    let tier: Capabilities['tier'] = null;
    if (mayTest && found.ok) {
      const places = { toolchain, etc: join(this.#folder, 'etc'), proxySocket };
      const filters = { none: seccompFilter('none'), proxy: seccompFilter('proxy') };
      const parts = { bwrap: found.path, filters, places, cgroups: cgroups.ok ? cgroups.cgroups : null, log };
      const paths = { probe: join(this.#folder, 'probe'), canary: join(this.#folder, 'canary') };
      let test = await selfTest(parts, paths, { signal });
      if (!test.sound && !signal.aborted) {
        // A machine that was overloaded for a moment must not be without tools until the next test.
        log.warn({ missing: sayMissing(test.list) }, 'sandbox test failed, testing again');
        test = await selfTest(parts, paths, { signal });
      }
      list.push(...test.list);
      if (test.sound) tier = cgroups.ok ? 'A' : 'A-';
      const spares = new SpareLaunches(parts, this.#options.spareLaunches);
      await this.#replaceParts({ ...parts, spares });
    }
    if (signal.aborted) throw unavailable('the tool service is stopping'); // a test that was cut off says nothing
    if (tier !== this.#capabilities.tier) {
      log.info({ tier, missing: sayMissing(list) }, 'sandbox tested');
    }
    this.#capabilities = { tier, list, probedUnixMs: Date.now() };
    return this.#capabilities;
  }
}

function sayMissing(list: readonly Capability[]): string[] {
  return list.filter(({ available }) => !available).map(({ name, detail }) => `${name}: ${detail}`);
}

function unavailable(why: string): QuernError {
  return new QuernError('FAILED_PRECONDITION', `no sandbox, no tool: ${why}`, { reason: 'SANDBOX_UNAVAILABLE' });
}

/** What a promise settles with, or the signal's reason when that comes first. */
async function waitFor<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: left, reject } = Promise.withResolvers<never>();
  const leave = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([promise, left]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}

async function writeTo(run: SandboxRun, data: Uint8Array): Promise<void> {
  await run.started;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const { stdin } = run;
  if (!stdin?.writable) throw new QuernError('FAILED_PRECONDITION', 'the command takes no more input: it has ended');
  stdin.write(data, (error) => (error ? reject(error) : resolve()));
  await promise;
}

/**
 * Opens the jail: closes stray descriptors, removes what a crashed service left behind, tests every layer. A machine that
 * cannot hold a sandbox is no error here: tier is null and run() says why. Throws FAILED_PRECONDITION as root.
 */
export async function openJail(options: JailOptions, { signal }: { signal: AbortSignal }): Promise<Jail> {
  if (process.getuid?.() === 0) throw unavailable('this process is root, and must give it up first');
  const closed = await closeStrayDescriptors({ signal });
  if (closed.length > 0) options.log.warn({ descriptors: closed }, 'closed inherited descriptors');
  const found = nativeStart();
  if (!found.ok) {
    options.log.warn({ cause: found.detail }, 'sandboxes are started by copying this process, which takes longer');
  }
  const stale = killStaleLaunches();
  if (stale > 0) options.log.warn({ processes: stale }, 'ended launches that an earlier run left behind');
  if (options.cgroups.ok) {
    try {
      const swept = await options.cgroups.cgroups.sweep();
      if (swept > 0) options.log.warn({ cgroups: swept }, 'removed what an earlier run left behind');
    } catch (error) {
      options.log.error({ err: error }, 'cgroups of an earlier run could not be removed'); // they harm nobody
    }
  }
  const jail = new OpenJail(options);
  try {
    await jail.probe({ signal });
  } catch (error) {
    await jail.close();
    throw error;
  }
  return jail;
}
