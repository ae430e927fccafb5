// The spans of one call: execute_tool NAME around it, sandbox.setup and sandbox.run inside. Names and numbers only, never arguments
// or output (semantic conventions for generative AI, "Execute tool span").
import {
  ATTR_EXECUTION_ID,
  ATTR_KEY_ID,
  ATTR_OUTCOME,
  ATTR_REQUEST_ID,
  ATTR_SANDBOX_CPU_MS,
  ATTR_SANDBOX_EXIT_CODE,
  ATTR_SANDBOX_MEMORY_BYTES,
  ATTR_SANDBOX_OUTPUT_BYTES,
  ATTR_SANDBOX_SIGNAL,
  ATTR_SANDBOX_TIER,
  ATTR_TENANT,
  ATTR_TOOL_DEPTH,
  ATTR_TOOL_KIND,
  ERROR_TYPE,
  GEN_AI_OPERATION_NAME,
  GEN_AI_TOOL_CALL_ID,
  GEN_AI_TOOL_NAME,
  GEN_AI_TOOL_TYPE,
} from '#kit/semconv.ts';
import { nowUnixNs, type Span, type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';
import type { SandboxEnd } from './jail/sandbox.ts';
import type { OutcomeWord } from './outcome.ts';
import type { ToolKind } from './tool.ts';

export type SpannedCall = {
  executionId: string;
  callId: string;
  tool: string;
  kind: ToolKind;
  depth: number;
  tenant: string;
  keyId: string;
  requestId: string;
};

/** What the caller wanted, not what broke, is no error of a span. */
const NO_FAULT: ReadonlySet<OutcomeWord> = new Set(['ok', 'cancelled', 'denied_policy', 'denied_approval']);

export class ToolSpans {
  readonly #sink: SpanSink;
  readonly #call: Span;
  #setup: Span | null = null;
  #run: Span | null = null;

  /** Starts execute_tool below the caller's span. */
  constructor(sink: SpanSink, parent: TraceContext, call: SpannedCall) {
    this.#sink = sink;
    this.#call = startSpan(sink, `execute_tool ${call.tool}`, parent, {
      attributes: {
        [GEN_AI_OPERATION_NAME]: 'execute_tool',
        [GEN_AI_TOOL_NAME]: call.tool,
        [GEN_AI_TOOL_CALL_ID]: call.callId,
        [GEN_AI_TOOL_TYPE]: call.kind === 'mcp' ? 'extension' : 'function',
        [ATTR_EXECUTION_ID]: call.executionId,
        [ATTR_TOOL_KIND]: call.kind,
        [ATTR_TOOL_DEPTH]: call.depth,
        [ATTR_REQUEST_ID]: call.requestId,
        [ATTR_TENANT]: call.tenant,
        [ATTR_KEY_ID]: call.keyId,
      },
    });
  }

  /** Parent of what happens inside. */
  get context(): TraceContext {
    return this.#call.context;
  }

  event(name: string): void {
    this.#call.event(name);
  }

  /** The call has its place: what makes it ready begins. */
  setup(): void {
    this.#setup ??= startSpan(this.#sink, 'sandbox.setup', this.#call.context);
  }

  /** The tool's first instruction. */
  started(tier: string): void {
    const now = nowUnixNs();
    this.#call.set({ [ATTR_SANDBOX_TIER]: tier });
    this.#setup?.end({ endUnixNs: now });
    this.#run ??= startSpan(this.#sink, 'sandbox.run', this.#call.context, {
      startUnixNs: now,
      attributes: { [ATTR_SANDBOX_TIER]: tier },
    });
  }

  /** Nothing of the tool is left. */
  ended(end: Omit<SandboxEnd, 'setupFailure' | 'killed' | 'setupNs' | 'runNs'> & { setupFailed: boolean }): void {
    this.#setup?.end({ error: end.setupFailed ? 'sandbox_setup_failed' : null });
    this.#run?.set({
      [ATTR_SANDBOX_OUTPUT_BYTES]: end.stdoutBytes + end.stderrBytes,
      ...(end.exitCode !== null && { [ATTR_SANDBOX_EXIT_CODE]: end.exitCode }),
      ...(end.signal !== null && { [ATTR_SANDBOX_SIGNAL]: end.signal }),
      ...(end.cpuNs !== null && { [ATTR_SANDBOX_CPU_MS]: Math.round(end.cpuNs / 1e6) }),
      ...(end.maxMemoryBytes !== null && { [ATTR_SANDBOX_MEMORY_BYTES]: end.maxMemoryBytes }),
    });
    this.#run?.end();
  }

  finish(outcome: OutcomeWord): void {
    const failed = !NO_FAULT.has(outcome);
    this.#setup?.end();
    this.#run?.end();
    this.#call.set({ [ATTR_OUTCOME]: outcome, ...(failed && { [ERROR_TYPE]: outcome }) });
    this.#call.end({ error: failed ? outcome : null });
  }
}
