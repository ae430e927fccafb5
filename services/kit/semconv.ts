// Every span attribute name in one place: OpenTelemetry's where it has one, quern.* for what is ours. Their conventions
// move (gen_ai.* is in development), so a change of names is a change of this file and of SEMCONV_VERSION.
import type { Code } from './errors.ts';

/** opentelemetry.io/docs/specs/semconv: rpc.*, http.*, messaging.*, error.*, server.*. */
export const SEMCONV_VERSION = '1.44.0';
/** gen_ai.*: open-telemetry/semantic-conventions-genai, which split off at 1.42.0 and has no release of its own yet. */
export const GEN_AI_SEMCONV_STATUS = 'development';

export const RPC_SYSTEM_NAME = 'rpc.system.name';
export const RPC_METHOD = 'rpc.method';
/** Text: "OK", "DEADLINE_EXCEEDED". */
export const RPC_STATUS_CODE = 'rpc.status_code';
export const SERVER_ADDRESS = 'server.address';
export const SERVER_PORT = 'server.port';
export const ERROR_TYPE = 'error.type';

export const HTTP_REQUEST_METHOD = 'http.request.method';
export const HTTP_ROUTE = 'http.route';
export const HTTP_RESPONSE_STATUS_CODE = 'http.response.status_code';

export const GEN_AI_OPERATION_NAME = 'gen_ai.operation.name';
export const GEN_AI_PROVIDER_NAME = 'gen_ai.provider.name';
export const GEN_AI_REQUEST_MODEL = 'gen_ai.request.model';
export const GEN_AI_REQUEST_MAX_TOKENS = 'gen_ai.request.max_tokens';
export const GEN_AI_REQUEST_CHOICE_COUNT = 'gen_ai.request.choice.count';
export const GEN_AI_REQUEST_TEMPERATURE = 'gen_ai.request.temperature';
export const GEN_AI_REQUEST_TOP_P = 'gen_ai.request.top_p';
export const GEN_AI_REQUEST_TOP_K = 'gen_ai.request.top_k';
export const GEN_AI_RESPONSE_ID = 'gen_ai.response.id';
export const GEN_AI_RESPONSE_MODEL = 'gen_ai.response.model';
/** A list: one reason per choice. */
export const GEN_AI_RESPONSE_FINISH_REASONS = 'gen_ai.response.finish_reasons';
/** Seconds, as the gateway sees it. */
export const GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = 'gen_ai.response.time_to_first_chunk';
export const GEN_AI_USAGE_INPUT_TOKENS = 'gen_ai.usage.input_tokens';
export const GEN_AI_USAGE_OUTPUT_TOKENS = 'gen_ai.usage.output_tokens';
export const GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = 'gen_ai.usage.cache_read.input_tokens';
export const GEN_AI_TOOL_NAME = 'gen_ai.tool.name';
/** The id that the model gave the call. */
export const GEN_AI_TOOL_CALL_ID = 'gen_ai.tool.call.id';
/** "function", "extension" (an MCP server's): semantic conventions for spans of tool execution. */
export const GEN_AI_TOOL_TYPE = 'gen_ai.tool.type';

export const MESSAGING_SYSTEM = 'messaging.system';
export const MESSAGING_OPERATION_NAME = 'messaging.operation.name';
export const MESSAGING_OPERATION_TYPE = 'messaging.operation.type';
export const MESSAGING_DESTINATION_NAME = 'messaging.destination.name';
export const MESSAGING_DESTINATION_TEMPLATE = 'messaging.destination.template';
export const MESSAGING_MESSAGE_ID = 'messaging.message.id';
export const MESSAGING_MESSAGE_BODY_SIZE = 'messaging.message.body.size';
export const MESSAGING_BATCH_MESSAGE_COUNT = 'messaging.batch.message_count';

export const ATTR_REQUEST_ID = 'quern.request_id';
export const ATTR_METHOD = 'quern.method';
export const ATTR_TENANT = 'quern.tenant';
/** The id of the API key, which stands for its user: no names in spans. */
export const ATTR_KEY_ID = 'quern.key_id';
/** The domain's reason of a refusal or failure: "SHED", "CONTEXT_LENGTH_EXCEEDED". */
export const ATTR_REASON = 'quern.reason';
/** stop, length, cancelled, superseded, or the code of a failure in lower case. */
export const ATTR_OUTCOME = 'quern.outcome';
export const ATTR_RESUMES = 'quern.resumes';
/** Levels of nested runs above this one. */
export const ATTR_AGENT_DEPTH = 'quern.agent.depth';

/** ULID, as in the audit records of the call. */
export const ATTR_EXECUTION_ID = 'quern.tool.execution_id';
export const ATTR_TOOL_KIND = 'quern.tool.kind';
export const ATTR_TOOL_DEPTH = 'quern.tool.depth';
export const ATTR_SANDBOX_TIER = 'quern.sandbox.tier';
export const ATTR_SANDBOX_EXIT_CODE = 'quern.sandbox.exit_code';
export const ATTR_SANDBOX_SIGNAL = 'quern.sandbox.signal';
export const ATTR_SANDBOX_CPU_MS = 'quern.sandbox.cpu_ms';
export const ATTR_SANDBOX_MEMORY_BYTES = 'quern.sandbox.memory_max_bytes';
/** Bytes that the tool wrote, stdout and stderr together. */
export const ATTR_SANDBOX_OUTPUT_BYTES = 'quern.sandbox.output_bytes';

/** Records in a frame, or stored of a batch. */
export const ATTR_AUDIT_RECORDS = 'quern.audit.records';
export const ATTR_AUTH_DECISION = 'quern.auth.decision';
export const ATTR_ADMIT_STAGE = 'quern.admit.stage';
export const ATTR_ADMIT_CLASS = 'quern.admit.priority_class';
export const ATTR_ADMIT_TOKENS = 'quern.admit.tokens';
export const ATTR_SHED_REASON = 'quern.shed.reason';
export const ATTR_ROUTE_POLICY = 'quern.route.policy';
export const ATTR_ROUTE_CANDIDATES = 'quern.route.candidates';
export const ATTR_ROUTE_READY = 'quern.route.ready';
export const ATTR_ROUTE_CHOSEN = 'quern.route.chosen';
export const ATTR_ROUTE_REASON = 'quern.route.reason';

export const ATTR_FIM_FAMILY = 'quern.fim.family';
export const ATTR_PRIORITY_CLASS = 'quern.priority_class';
export const ATTR_QUEUE_POSITION = 'quern.queue.position';
export const ATTR_CACHED_TOKENS = 'quern.cached_tokens';
export const ATTR_COMPUTED_TOKENS = 'quern.computed_tokens';
export const ATTR_PREFILL_CHUNKS = 'quern.prefill_chunks';
export const ATTR_DECODE_STEPS = 'quern.decode_steps';
export const ATTR_PREEMPTIONS = 'quern.preemptions';
export const ATTR_PREEMPTION_CAUSE = 'quern.preemption.cause';
/** Milliseconds between tokens of one choice; p50 and p95 to a fifth of their value. */
export const ATTR_TPOT_P50_MS = 'quern.tpot.p50_ms';
export const ATTR_TPOT_P95_MS = 'quern.tpot.p95_ms';
export const ATTR_TPOT_MAX_MS = 'quern.tpot.max_ms';
/** Sequences that got a token in the same step. */
export const ATTR_BATCH_AVG = 'quern.batch.avg';
export const ATTR_BATCH_MAX = 'quern.batch.max';
export const ATTR_STEP_BATCH_SIZE = 'quern.step.batch_size';
export const ATTR_STEP_PREFILL_TOKENS = 'quern.step.prefill_tokens';
export const ATTR_STEP_DECODE_TOKENS = 'quern.step.decode_tokens';
export const ATTR_STEP_KV_BLOCKS = 'quern.step.kv_blocks';
export const ATTR_STEP_FORWARD_MS = 'quern.step.forward_ms';
/** Why this step is shown: "sample" or "slow". */
export const ATTR_STEP_SHOWN = 'quern.step.shown';

/**
 * The names by which vLLM's span "llm_request" says the same (vllm/tracing, SpanAttributes). Older than the convention, and
 * what existing dashboards ask for: written beside ours only when asked for.
 */
export const VLLM_NAMES = {
  promptTokens: 'gen_ai.usage.prompt_tokens',
  completionTokens: 'gen_ai.usage.completion_tokens',
  requestId: 'gen_ai.request.id',
  choices: 'gen_ai.request.n',
  queueSeconds: 'gen_ai.latency.time_in_queue',
  firstTokenSeconds: 'gen_ai.latency.time_to_first_token',
  prefillSeconds: 'gen_ai.latency.time_in_model_prefill',
  decodeSeconds: 'gen_ai.latency.time_in_model_decode',
  inferenceSeconds: 'gen_ai.latency.time_in_model_inference',
  totalSeconds: 'gen_ai.latency.e2e',
} as const;

const SERVER_FAULTS: ReadonlySet<string> = new Set<Code>([
  'UNKNOWN',
  'DEADLINE_EXCEEDED',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
]);

/**
 * The code when it makes a server's span an error, else null: what the caller did (a cancel, a bad argument) or what is
 * a normal refusal (shed) is none (semantic conventions for gRPC, "Server").
 */
export function serverFault(code: string | null | undefined): string | null {
  return code !== null && code !== undefined && SERVER_FAULTS.has(code) ? code : null;
}
