// Runs what a tool has prepared, in the sandbox or as a function of the service, and says how it ended and what the model gets.
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { CallEvents } from './call-events.ts';
import type { Jail, OutputSink, SandboxEnd, SandboxLimits } from './jail/sandbox.ts';
import {
  KILL_SETTLE_MS,
  MESSAGE_CHARS_MAX,
  MODEL_OUTPUT_BYTES_MAX,
  OUTPUT_EVENT_BYTES_MAX,
  RING_BYTES_MAX,
} from './limits.ts';
import { forModel, OutputCapture, stripText } from './model-output.ts';
import { KILL_OUTCOMES, killMessage, type OutcomeWord } from './outcome.ts';
import type { CapturedOutput, JsonValue, PreparedCall, ToolAnswer } from './tool.ts';

export type RunUsage = {
  runNs: number;
  cpuNs: number;
  maxMemoryBytes: number;
  stdoutBytes: number;
  stderrBytes: number;
  /** Processes and threads that it could not start. */
  processesRefused: number;
};

export type RunResult = {
  outcome: OutcomeWord;
  message: string;
  exitCode: number | null;
  signal: string;
  content: string;
  contentCut: boolean;
  /** JSON; "" = none. */
  structured: string;
  artifacts: ToolAnswer['artifacts'];
  usage: RunUsage;
};

export type RunOptions = {
  jail: Jail;
  prepared: PreparedCall;
  limits: SandboxLimits;
  modelOutputBytes: number;
  events: CallEvents;
  /** Aborts when the service ends the call; `stopped` then says as what. */
  signal: AbortSignal;
  stopped(): OutcomeWord | null;
  onStart(tier: string): void;
  /** Told when the call waits for others of its workspace, as by the jail. */
  onHeldUp?(): void;
  /** Told once, when nothing is left of a run in the sandbox. */
  onEnd(end: SandboxEnd): void;
  log: Log;
};

export const NO_USAGE: RunUsage = {
  ...{ runNs: 0, cpuNs: 0, maxMemoryBytes: 0 },
  ...{ stdoutBytes: 0, stderrBytes: 0, processesRefused: 0 },
};

/** A result of which nothing ran, or nothing is to be told. */
export function emptyResult(outcome: OutcomeWord, message: string): RunResult {
  const shown = stripText(message).slice(0, MESSAGE_CHARS_MAX);
  const nothing = { exitCode: null, signal: '', contentCut: false, structured: '', artifacts: [], usage: NO_USAGE };
  return { outcome, message: shown, content: shown, ...nothing };
}

function stripJson(value: JsonValue): JsonValue {
  if (typeof value === 'string') return stripText(value);
  if (Array.isArray(value)) return value.map(stripJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [stripText(key), stripJson(one as JsonValue)]));
}

function structuredText(value: JsonValue): { structured: string; left: boolean } {
  if (value === null) return { structured: '', left: false };
  const text = JSON.stringify(stripJson(value));
  return Buffer.byteLength(text) > MODEL_OUTPUT_BYTES_MAX
    ? { structured: '', left: true }
    : { structured: text, left: false };
}

/** What a killed command had written, for the model. */
function outputText({ stdout, stderr }: CapturedOutput): string {
  const parts = [
    ['stdout', stdout],
    ['stderr', stderr],
  ].filter(([, text]) => text !== '');
  return parts.map(([name, text]) => `\n${name}:\n${text}`).join('');
}

function answered(answer: ToolAnswer, cut: boolean, { modelOutputBytes }: RunOptions) {
  const { text, cut: cutAgain } = forModel(answer.content, modelOutputBytes);
  const { structured, left } = structuredText(answer.structured);
  const message = answer.ok ? '' : stripText(answer.message).slice(0, MESSAGE_CHARS_MAX);
  return {
    outcome: answer.ok ? ('ok' as const) : ('nonzero_exit' as const),
    message,
    content: text,
    contentCut: cut || cutAgain || left,
    structured,
    artifacts: answer.artifacts,
  };
}

/** A shell goes on when it cannot start a process, and may end with 0 all the same: whoever reads its output must know. */
function withRefusals(answer: ToolAnswer, refused: number, { pids }: SandboxLimits): ToolAnswer {
  if (refused === 0) return answer;
  const what = refused === 1 ? '1 process or thread' : `${refused} processes or threads`;
  const note = `[${what} could not be started: the limit of this tool is ${pids} at once]`;
  return { ...answer, content: answer.content === '' ? note : `${note}\n${answer.content}` };
}

function stoppedResult(outcome: OutcomeWord, output: CapturedOutput, options: RunOptions): Omit<RunResult, 'usage'> {
  const message = killMessage(outcome, options.limits);
  const { text, cut } = forModel(`${message}${outputText(output)}`, options.modelOutputBytes);
  return {
    ...emptyResult(outcome, message),
    content: text,
    contentCut: cut || output.cut,
  };
}

/** The giver may use its buffer again. Not of Node's pool: one byte kept there for minutes would keep 64 KiB. */
function ownCopy(data: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(data.length);
  copy.set(data);
  return copy;
}

/** `start` comes before any output, whatever the order in which the jail tells of both. */
function sinkOf(events: CallEvents, capture: OutputCapture, start: () => void): OutputSink {
  return {
    write(stream, data) {
      start();
      let isMore = true;
      for (let at = 0; at < data.length; at += OUTPUT_EVENT_BYTES_MAX) {
        const kept = ownCopy(data.subarray(at, at + OUTPUT_EVENT_BYTES_MAX));
        capture.add(stream, kept);
        isMore = events.appendOutput(stream === 'stdout' ? 1 : 2, kept);
      }
      return isMore;
    },
    drained: () => events.drained(),
  };
}

function failed(error: unknown, { log, stopped, limits }: RunOptions): RunResult {
  const outcome = stopped();
  if (outcome) return emptyResult(outcome, killMessage(outcome, limits));
  const { code, message, details } = toQuernError(error);
  if (details.reason === 'SANDBOX_UNAVAILABLE') return emptyResult('sandbox_unavailable', message);
  if (code === 'INVALID_ARGUMENT') return emptyResult('invalid_args', message);
  log.error({ err: error }, 'a sandbox could not be set up');
  const told =
    error instanceof QuernError ? message : 'the sandbox could not be set up; the log of the service says why';
  return emptyResult('sandbox_setup_failed', told);
}

async function runCommand(
  prepared: Extract<PreparedCall, { kind: 'sandbox' }>,
  options: RunOptions,
): Promise<RunResult> {
  const { jail, limits, events, signal, onStart, onEnd, onHeldUp, stopped, modelOutputBytes } = options;
  const capture = new OutputCapture(modelOutputBytes);
  const tier = jail.capabilities().tier ?? '';
  let started = false;
  const start = (): void => {
    if (!started) onStart(tier);
    started = true;
  };
  let end: SandboxEnd;
  try {
    const output = sinkOf(events, capture, start);
    const told = { onStart: start, ...(onHeldUp && { onHeldUp }) };
    end = await jail.run({ ...prepared.command, limits }, { signal, output, ...told });
  } catch (error) {
    return failed(error, options);
  }
  if (end.exitCode !== null) start();
  onEnd(end);
  const { exitCode, killed, setupFailure, runNs, stdoutBytes, stderrBytes, pidsRefused: processesRefused = 0 } = end;
  const measured = { cpuNs: end.cpuNs ?? 0, maxMemoryBytes: end.maxMemoryBytes ?? 0 };
  const usage = { runNs, ...measured, stdoutBytes, stderrBytes, processesRefused };
  const ran = { exitCode, signal: end.signal ?? '', usage };
  const stop = stopped();
  if (killed !== null || (stop !== null && exitCode === null)) {
    const outcome = stop ?? KILL_OUTCOMES[killed!];
    return { ...stoppedResult(outcome, capture.captured(), options), ...ran };
  }
  if (setupFailure !== null) {
    if (end.refusal) return { ...emptyResult('sandbox_setup_failed', setupFailure), usage };
    options.log.error({ reason: setupFailure }, 'a sandbox could not be set up');
    return { ...emptyResult('sandbox_setup_failed', `the sandbox could not be set up: ${setupFailure}`), usage };
  }
  const output = capture.captured();
  if (exitCode === null) {
    const message = `ended by ${end.signal ?? 'a signal'}`;
    const { text, cut } = forModel(`${message}${outputText(output)}`, modelOutputBytes);
    return { ...emptyResult('nonzero_exit', message), content: text, contentCut: cut || output.cut, ...ran };
  }
  try {
    const answer = withRefusals(prepared.answer(end, output), processesRefused, limits);
    return { ...answered(answer, output.cut, options), ...ran };
  } catch (error) {
    options.log.warn({ err: error, tier }, 'the answer of a tool could not be read');
    return {
      ...emptyResult('nonzero_exit', 'it ran, but what it answered cannot be read; let it answer less'),
      ...ran,
    };
  }
}

/** Ends a function at its limits as the jail ends a command. */
async function runFunction(
  prepared: Extract<PreparedCall, { kind: 'function' }>,
  options: RunOptions,
): Promise<RunResult> {
  const { limits, events, modelOutputBytes, onStart, stopped, log } = options;
  const capture = new OutputCapture(modelOutputBytes);
  const own = new AbortController();
  let overrun: OutcomeWord | null = null;
  const end = (outcome: OutcomeWord): void => {
    overrun ??= outcome;
    own.abort(new QuernError('CANCELLED', killMessage(outcome, limits)));
  };
  const sink = sinkOf(events, capture, () => {});
  const output: OutputSink = {
    ...sink,
    write(stream, data) {
      if (own.signal.aborted) return false;
      const more = sink.write(stream, data);
      const bytes = capture.stdoutBytes + capture.stderrBytes;
      // Nobody can pause a function that does not heed `more`.
      if (bytes > limits.outputBytes || events.unread > RING_BYTES_MAX / 2) end('output_limit');
      return more;
    },
  };
  const signal = AbortSignal.any([options.signal, own.signal]);
  const startedAt = performance.now();
  const usage = (): RunUsage => ({
    ...NO_USAGE,
    runNs: Math.round((performance.now() - startedAt) * 1e6),
    stdoutBytes: capture.stdoutBytes,
    stderrBytes: capture.stderrBytes,
  });
  const timer = setTimeout(() => end('timeout_wall'), limits.wallMs);
  onStart(prepared.tier);
  try {
    const answer = await within(prepared.run({ signal, output }), signal);
    signal.throwIfAborted(); // what it says after its end does not count
    const kept = { ...answered(answer, false, options), exitCode: null, signal: '' };
    return { ...kept, usage: usage() };
  } catch (error) {
    const outcome = stopped() ?? overrun;
    if (outcome) return { ...stoppedResult(outcome, capture.captured(), options), usage: usage() };
    const { code, message, details } = toQuernError(error);
    if (code === 'INVALID_ARGUMENT') return { ...emptyResult('invalid_args', message), usage: usage() };
    if (details.reason === 'SANDBOX_UNAVAILABLE')
      return { ...emptyResult('sandbox_unavailable', message), usage: usage() };
    log.warn({ err: error, tier: prepared.tier }, 'a tool failed');
    return { ...emptyResult('nonzero_exit', message), usage: usage() };
  } finally {
    clearTimeout(timer);
  }
}

/** The work's end; after an abort it has a moment for it. */
async function within<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: over, reject } = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => reject(signal.reason), KILL_SETTLE_MS);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** Never rejects: however it goes is a result. */
export function runPrepared(options: RunOptions): Promise<RunResult> {
  const { prepared } = options;
  return prepared.kind === 'sandbox' ? runCommand(prepared, options) : runFunction(prepared, options);
}
