// The spans of a run (OpenTelemetry GenAI conventions): invoke_agent per level, execute_tool per call. No text in them.
import {
  ATTR_AGENT_DEPTH,
  ATTR_OUTCOME,
  ATTR_REQUEST_ID,
  ERROR_TYPE,
  GEN_AI_OPERATION_NAME,
  GEN_AI_PROVIDER_NAME,
  GEN_AI_REQUEST_MODEL,
  GEN_AI_TOOL_CALL_ID,
  GEN_AI_TOOL_NAME,
  GEN_AI_USAGE_INPUT_TOKENS,
  GEN_AI_USAGE_OUTPUT_TOKENS,
  serverFault,
} from '#kit/semconv.ts';
import type { Span, SpanAttributes } from '#kit/trace.ts';
import type { RunAccount } from './run-budget.ts';

export const AGENT_SPAN = 'invoke_agent';
export const TOOL_SPAN = 'execute_tool';

export function agentSpanAttributes(from: { runId: string; model: string; depth: number }): SpanAttributes {
  return {
    [GEN_AI_OPERATION_NAME]: AGENT_SPAN,
    [GEN_AI_PROVIDER_NAME]: 'quern',
    [GEN_AI_REQUEST_MODEL]: from.model,
    [ATTR_REQUEST_ID]: from.runId,
    [ATTR_AGENT_DEPTH]: from.depth,
  };
}

export function endAgentSpan(span: Span, outcome: string, { usage }: RunAccount, error: string | null): void {
  span.set({
    [ATTR_OUTCOME]: outcome.toLowerCase(),
    [GEN_AI_USAGE_INPUT_TOKENS]: usage.promptTokens,
    [GEN_AI_USAGE_OUTPUT_TOKENS]: usage.completionTokens,
    ...(error !== null && { [ERROR_TYPE]: error }),
  });
  span.end({ error: serverFault(error) });
}

export function toolSpanAttributes(callId: string, tool: string): SpanAttributes {
  return { [GEN_AI_OPERATION_NAME]: TOOL_SPAN, [GEN_AI_TOOL_NAME]: tool, [GEN_AI_TOOL_CALL_ID]: callId };
}

/** A tool that failed is a result, not an error of the service. */
export function endToolSpan(span: Span, outcome: string, fault: string | null): void {
  span.set({ [ATTR_OUTCOME]: outcome.toLowerCase(), ...(fault !== null && { [ERROR_TYPE]: fault }) });
  span.end({ error: serverFault(fault) });
}
