// The checks of a run's request, before anything is asked of anybody.
import type { SamplingParams } from '#gen/quern/common/v1/common.ts';
import { AgentMode, type RunRequest } from '#gen/quern/gateway/v1/agent.ts';
import type { FieldViolation } from '#kit/errors.ts';
import { MESSAGES_MAX } from '../limits.ts';
import { invalidArgument, REQUEST_ID } from '../typed-request.ts';
import { RUN_LINGER_MS_MAX, RUN_TOOLS_MAX, TOOL_NAME_CHARS_MAX } from './limits.ts';
import { type RunLimits, resolveLimits } from './run-budget.ts';

const TOOL_NAME = new RegExp(`^[A-Za-z0-9_-]{1,${TOOL_NAME_CHARS_MAX}}$`);
const MODES: readonly number[] = Object.values(AgentMode).filter((mode) => mode >= 0);

/** A run's answer is one text: what makes several, or figures that no event carries, is refused. */
function samplingProblems({ n, logprobs, promptLogprobs }: SamplingParams): FieldViolation[] {
  const fields: FieldViolation[] = [];
  if (n !== undefined && n !== 1)
    fields.push({ field: 'sampling.n', description: `expected 1 in an agent run, got ${n}` });
  if (logprobs !== undefined) fields.push({ field: 'sampling.logprobs', description: 'expected none in an agent run' });
  if (promptLogprobs !== undefined) {
    fields.push({ field: 'sampling.prompt_logprobs', description: 'expected none in an agent run' });
  }
  return fields;
}

/** The run's limits. Throws INVALID_ARGUMENT naming every refused field. */
export function checkRunRequest(request: RunRequest): RunLimits {
  const { messages, tools, sampling, mode, sessionId, lingerMs = 0 } = request;
  const { limits, fields } = resolveLimits(request.limits);
  if (messages.length === 0 || messages.length > MESSAGES_MAX) {
    fields.push({ field: 'messages', description: `expected 1..${MESSAGES_MAX} messages, got ${messages.length}` });
  }
  if (tools.length > RUN_TOOLS_MAX) {
    fields.push({ field: 'tools', description: `expected at most ${RUN_TOOLS_MAX} names, got ${tools.length}` });
  }
  const odd = tools.find((name) => !TOOL_NAME.test(name));
  if (odd !== undefined) {
    fields.push({
      field: 'tools',
      description: `expected names of 1..${TOOL_NAME_CHARS_MAX} of [A-Za-z0-9_-], got "${odd.slice(0, 64)}"`,
    });
  }
  if (!MODES.includes(mode)) fields.push({ field: 'mode', description: `expected LOOP or PLAN, got ${mode}` });
  if (sessionId !== '' && !REQUEST_ID.test(sessionId)) {
    fields.push({ field: 'session_id', description: 'expected 1..128 of [A-Za-z0-9._:-]' });
  }
  if (lingerMs > RUN_LINGER_MS_MAX) {
    fields.push({ field: 'linger_ms', description: `expected 0..${RUN_LINGER_MS_MAX}, got ${lingerMs}` });
  }
  if (request.options?.returnTokenIds) {
    fields.push({ field: 'options.return_token_ids', description: 'expected false in an agent run' });
  }
  if (sampling) fields.push(...samplingProblems(sampling));
  if (fields.length > 0) throw invalidArgument(fields);
  return limits;
}
