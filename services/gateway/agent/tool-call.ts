// One tool call from its arguments to its one CallEnded: checked, run by the tool service or as a nested run, shown while it
// runs, its result cut to what the run may still give to the model.
import type { CallEnded } from '#gen/quern/gateway/v1/agent.ts';
import { type ExecuteResponse, Outcome, OutputStream, type Result } from '#gen/quern/tools/v1/tools.ts';
import { type Code, QuernError, toQuernError } from '#kit/errors.ts';
import { type Span, startSpan } from '#kit/trace.ts';
import { endToolSpan, TOOL_SPAN, toolSpanAttributes } from './agent-spans.ts';
import { CALL_ARGUMENTS_BYTES_MAX, CALL_OUTPUT_BYTES_MAX, CALL_TIMEOUT_MS_MAX } from './limits.ts';
import { runNested } from './nested-run.ts';
import { AGENT_TOOL, type OfferedTool } from './offered-tools.ts';
import { cutText, modelText } from './result-text.ts';
import { type RunLevel, type RunShared, taintMore } from './run-state.ts';

export type CallSpec = {
  callId: string;
  tool: string;
  argumentsJson: string;
  /** Why it cannot be made; null: nothing is known against it. */
  problem: string | null;
  /** 0, 1, ...; in plan mode 0. */
  turn: number;
  /** Two calls with one key run once. */
  idempotencyKey: string;
};

export type CallResult = {
  outcome: string;
  /** What the model gets. */
  content: string;
  replayed: boolean;
  /** The tool service could not be used; the call has ended all the same. */
  fault: QuernError | null;
};

/** How a call ended, before its text is cut. */
export type CallEnding = {
  outcome: string;
  message: string;
  content: string;
  contentCut?: boolean;
  exitCode?: number | undefined;
  runNs?: bigint;
  replayed?: boolean;
  fault?: QuernError | null;
};

const NO_BYTES = Buffer.alloc(0);

const OUTCOMES = new Map<number, string>(
  Object.entries(Outcome).map(([name, value]) => [value, name.replace('OUTCOME_', '')]),
);

export const callFailed = (outcome: string, message: string): CallEnding => ({ outcome, message, content: '' });

export function announceCall({ log }: RunShared, level: RunLevel, spec: CallSpec): void {
  const { callId, tool, argumentsJson, turn } = spec;
  log.emit(level.path, { $case: 'call', value: { callId, tool, argumentsJson, turn } });
}

/** Runs an announced call. Never rejects: how it ended is told, once, and answered. */
export async function runCall(shared: RunShared, level: RunLevel, spec: CallSpec): Promise<CallResult> {
  const tool = level.tools.get(spec.tool);
  const attributes = toolSpanAttributes(spec.callId, tool?.name ?? 'unknown');
  const span = startSpan(shared.spans, `${TOOL_SPAN} ${tool?.name ?? 'unknown'}`, level.trace, { attributes });
  const ended = shared.watch.call(spec.callId, tool?.name ?? 'unknown');
  const startedNs = process.hrtime.bigint();
  const ending = await endingOf(shared, level, { spec, tool, span }).catch((thrown) =>
    endingOfError(thrown, shared, false),
  );
  shared.approvals.endCall(spec.callId);
  endToolSpan(span, ending.outcome, ending.fault?.code ?? null);
  ended(ending.outcome);
  return endCall(shared, level, spec, { runNs: process.hrtime.bigint() - startedNs, ...ending });
}

/** Ends an announced call that is not run. */
export function refuseCall(shared: RunShared, level: RunLevel, spec: CallSpec, ending: CallEnding): CallResult {
  shared.watch.call(spec.callId, level.tools.get(spec.tool)?.name ?? 'unknown')(ending.outcome);
  return endCall(shared, level, spec, ending);
}

function endCall(shared: RunShared, level: RunLevel, { callId }: CallSpec, ending: CallEnding): CallResult {
  const { outcome, message, exitCode, runNs = 0n, replayed = false, fault = null } = ending;
  const whole = modelText(outcome, ending.content, message);
  const { text: content, cut } = cutText(whole, shared.budget.takeResultBytes(Buffer.byteLength(whole)));
  const contentCut = cut || (ending.contentCut ?? false);
  const value: CallEnded = { callId, outcome, message, content, contentCut, exitCode, runNs, replayed };
  shared.log.emit(level.path, { $case: 'callEnded', value });
  return { outcome, content, replayed, fault };
}

type Running = { spec: CallSpec; tool: OfferedTool | null; span: Span };

async function endingOf(shared: RunShared, level: RunLevel, running: Running): Promise<CallEnding> {
  const { spec, tool, span } = running;
  if (shared.signal.aborted) return endingOfError(shared.signal.reason, shared, false);
  if (!shared.budget.takeCall()) return callFailed('DENIED_POLICY', 'the run has used all its tool calls; answer now');
  level.account.countCall();
  if (!tool) {
    const names = level.tools.names.join(', ') || 'none';
    return callFailed('INVALID_ARGS', `no tool "${spec.tool.slice(0, 64)}" here; expected one of: ${names}`);
  }
  const problem = spec.problem ?? argumentsProblem(spec.argumentsJson);
  if (problem !== null) return callFailed('INVALID_ARGS', problem);
  if (tool.name === AGENT_TOOL) return runNested(shared, level, { ...spec, trace: span.context });
  return execute(shared, level, { spec, tool, span });
}

/** Null: they are an object. */
function argumentsProblem(text: string): string | null {
  const size = Buffer.byteLength(text);
  if (size > CALL_ARGUMENTS_BYTES_MAX)
    return `expected at most ${CALL_ARGUMENTS_BYTES_MAX} bytes of arguments, got ${size}`;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return null;
    return 'expected the arguments as a JSON object, got another JSON value';
  } catch (error) {
    return `expected the arguments as a JSON object, got text that does not parse (${(error as Error).message.slice(0, 120)})`;
  }
}

async function execute(
  shared: RunShared,
  level: RunLevel,
  { spec, tool, span }: Running & { tool: OfferedTool },
): Promise<CallEnding> {
  const { signal, log, taint } = shared;
  let seen = false;
  try {
    const options = { signal, trace: span.context, nestedContext: shared.seal(level, span.context) };
    for await (const { event } of shared.tools.execute(executeRequest(shared, level, { spec, tool }), options)) {
      seen = true;
      await log.ready({ signal });
      if (event?.$case === 'result') {
        taintMore(taint, event.value.taint);
        return endingOfResult(event.value);
      }
      if (event) show(shared, level, spec.callId, event);
    }
  } catch (thrown) {
    return endingOfError(thrown, shared, seen);
  }
  return callFailed('UNKNOWN', 'the tool service ended the call without a result; whether it ran is not known');
}

function executeRequest(shared: RunShared, level: RunLevel, { spec, tool }: { spec: CallSpec; tool: OfferedTool }) {
  const leftMs = Math.floor(shared.deadlineMs - performance.now());
  return {
    caller: shared.caller,
    callId: `${shared.instance}:${spec.callId}`,
    idempotencyKey: spec.idempotencyKey,
    tool: tool.name,
    toolSha256: tool.sha256 ?? NO_BYTES,
    argumentsJson: spec.argumentsJson,
    stdin: NO_BYTES,
    limits: undefined,
    timeoutMs: Math.max(1, Math.min(CALL_TIMEOUT_MS_MAX, leftMs)),
    depth: level.depth,
    taint: { ...shared.taint },
  };
}

type ToolEvent = NonNullable<ExecuteResponse['event']>;

function show({ log, approvals }: RunShared, { path }: RunLevel, callId: string, event: ToolEvent): void {
  if (event.$case === 'started') approvals.endCall(callId);
  if (event.$case === 'output') {
    const { stream, data } = event.value;
    const isStderr = stream === OutputStream.OUTPUT_STREAM_STDERR;
    for (let at = 0; at < data.length; at += CALL_OUTPUT_BYTES_MAX) {
      const piece = data.subarray(at, at + CALL_OUTPUT_BYTES_MAX);
      log.emit(path, { $case: 'callOutput', value: { callId, isStderr, data: piece } });
    }
  }
  if (event.$case === 'approvalRequired') {
    approvals.add(callId, event.value);
    log.emit(path, { $case: 'approval', value: { callId, ...event.value } });
  }
}

function endingOfResult(result: Result): CallEnding {
  const { message, content, contentCut, exitCode, usage, replayed } = result;
  const outcome = OUTCOMES.get(result.outcome) ?? 'UNKNOWN';
  return { outcome, message, content, contentCut, exitCode, runNs: usage?.runNs ?? 0n, replayed };
}

/** What the tool service says instead of a result that is about this call, not about the service. */
const REFUSALS: Partial<Record<Code, string>> = {
  INVALID_ARGUMENT: 'INVALID_ARGS',
  NOT_FOUND: 'INVALID_ARGS',
  FAILED_PRECONDITION: 'INVALID_ARGS',
  PERMISSION_DENIED: 'DENIED_POLICY',
  RESOURCE_EXHAUSTED: 'SANDBOX_UNAVAILABLE',
  DEADLINE_EXCEEDED: 'DEADLINE',
};

/** `seen`: the service had taken the call, so it may have run. */
export function endingOfError(thrown: unknown, shared: Pick<RunShared, 'signal'>, seen: boolean): CallEnding {
  const { aborted, reason } = shared.signal;
  const error = toQuernError(aborted ? reason : thrown);
  if (aborted) {
    const outcome = error.code === 'DEADLINE_EXCEEDED' ? 'DEADLINE' : 'CANCELLED';
    return callFailed(outcome, error.message);
  }
  const refusal = REFUSALS[error.code];
  if (refusal !== undefined) return callFailed(refusal, error.message);
  const outcome = seen ? 'UNKNOWN' : 'SANDBOX_UNAVAILABLE';
  const fault =
    error.code === 'INTERNAL' ? error : new QuernError(error.code, error.message, error.details, { cause: error });
  return { ...callFailed(outcome, error.message), fault };
}
