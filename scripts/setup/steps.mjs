// Running programs, timing steps and saying what went wrong.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { root } from './paths.mjs';

/** A failure whose message is all the reader needs: what was expected, what was found, what to do. */
export class SetupError extends Error {}

const STOP_GRACE_MS = 10_000;

const live = new Set();
/** The signal that ends this process, once there was one. */
let stoppedBy = null;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop(signal));

/**
 * Asks what runs to end, and ends with it. Ninja has its compilers in process groups of their own: only when it is asked does it end
 * them too. A second signal, or programs that take too long, end the groups at once.
 */
function stop(signal) {
  if (stoppedBy !== null || live.size === 0) leave(signal);
  stoppedBy = signal;
  process.stderr.write(`\n${signal}: stopping; what is done is kept, and the next call goes on from there\n`);
  for (const child of live) killGroup(child, 'SIGTERM');
  setTimeout(() => leave(signal), STOP_GRACE_MS);
}

function leave(signal) {
  for (const child of live) killGroup(child, 'SIGKILL');
  process.exit(128 + constants.signals[stoppedBy ?? signal]);
}

/**
 * Runs a program in a process group of its own and resolves with { code, signal, output, timedOut, seconds }.
 * `inherit` shows its output instead of collecting it; `onOutput` gets each piece of it. After `timeoutMs` the whole group is killed.
 * `niceness` above 0: it takes only what others leave.
 * Never rejects: a program that cannot be started has code 127 and the reason as output. Never resolves while this process stops.
 */
export function run(
  program,
  programArgs,
  { cwd = root, env = process.env, inherit = false, niceness = 0, timeoutMs = 0, onOutput } = {},
) {
  if (stoppedBy !== null) return new Promise(() => {});
  const startedAt = performance.now();
  const [command, args] =
    niceness > 0 ? ['sh', ['-c', NICELY, String(niceness), program, ...programArgs]] : [program, programArgs];
  return new Promise((done) => {
    const child = spawn(command, args, { cwd, env, detached: true, stdio: ['ignore', ...pipes(inherit)] });
    live.add(child);
    const chunks = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk) => {
        chunks.push(chunk);
        onOutput?.(chunk.toString('latin1'));
      });
    }
    let timedOut = false;
    const timer =
      timeoutMs &&
      setTimeout(() => {
        timedOut = true;
        killGroup(child, 'SIGKILL');
      }, timeoutMs);
    const finish = (code, signal, note = '') => {
      clearTimeout(timer);
      live.delete(child);
      if (stoppedBy !== null) {
        if (live.size === 0) leave(stoppedBy);
        return;
      }
      const output = Buffer.concat(chunks).toString('utf8') + note;
      done({ code, signal, output, timedOut, seconds: (performance.now() - startedAt) / 1000 });
    };
    child.on('error', (error) => finish(127, null, `${command}: ${error.message}\n`));
    child.on('close', (code, signal) => finish(code ?? 1, signal));
  });
}

// Where the kernel groups processes by session, nice counts within the group alone, and what runs here is a session of its own.
const NICELY = 'echo "$0" 2>/dev/null > /proc/self/autogroup; exec nice -n "$0" "$@"';

const pipes = (inherit) => (inherit ? ['inherit', 'inherit'] : ['pipe', 'pipe']);

function killGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // the group has already ended
  }
}

/** As `run`, but a failure throws a SetupError with `what`, the end of the output and `advice`. */
export async function mustRun(what, command, args, { advice = '', ...options } = {}) {
  const result = await run(command, args, options);
  if (result.code === 0) return result;
  const how = result.timedOut ? 'did not end in time' : `ended with ${result.signal ?? `exit code ${result.code}`}`;
  throw new SetupError(`${what}: \`${command} ${args.join(' ')}\` ${how}.\n${tail(result.output)}${advice}`);
}

/** The last lines of a program's output, without build progress lines. */
export function tail(output, lines = 200) {
  const kept = output.split('\n').filter((line) => line.trim() && !/^\[\d+\/\d+\] (?!.*FAILED)/.test(line));
  return kept
    .slice(-lines)
    .map((line) => `  ${line}\n`)
    .join('');
}

export const say = (text) => process.stdout.write(`${text}\n`);

/** "0.4 s", "48 s", "3 min 20 s" */
export function formatSeconds(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 120 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const STILL_EVERY_MS = 15_000;

/**
 * Prints "name ...", runs `action` and prints "name: verb in 48 s" behind it; while it goes on, that every 15 s,
 * because where output is piped nothing else shows. `expect`: what is done and how long it usually takes. `action` may tell how far
 * it is: by the function that it gets, as in "49 of 92".
 */
export async function timed(name, verb, action, { expect = '', stillEveryMs = STILL_EVERY_MS } = {}) {
  const startedAt = performance.now();
  const since = () => formatSeconds((performance.now() - startedAt) / 1000);
  say(expect === '' ? `${name} ...` : `${name}: ${expect} ...`);
  let progress = 'still at it';
  const still = setInterval(() => say(`${name}: ${progress} after ${since()} ...`), stillEveryMs);
  try {
    const result = await action((text) => {
      progress = text;
    });
    say(`${name}: ${verb} in ${since()}`);
    return result;
  } finally {
    clearInterval(still);
  }
}

/** The JSON in a stamp file, or null when there is none or it cannot be read. */
export function readStamp(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return null;
  }
}

export function writeStamp(path, value) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
