// A plan: what the model is asked, what it may answer, and what is checked before anything runs.
import type { PlanStep } from '#gen/quern/gateway/v1/agent.ts';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { depthOf, isJsonObject, type JsonObject } from './json-value.ts';
import {
  CALL_ARGUMENTS_BYTES_MAX,
  CALL_ARGUMENTS_DEPTH_MAX,
  PLAN_STEPS_MAX,
  PLAN_TEXT_BYTES_MAX,
  STEP_ATTEMPTS_MAX,
  STEP_ATTEMPTS_USUAL,
} from './limits.ts';
import { textMessage } from './messages.ts';
import type { OfferedTools } from './offered-tools.ts';
import { schemaProblem } from './schema-check.ts';
import { referencesOf } from './step-references.ts';

export type PlannedStep = {
  id: string;
  tool: string;
  arguments: JsonObject;
  /** Steps that must have ended well: those named and those referred to. */
  after: string[];
  maxAttempts: number;
};

export type ReadPlan = { ok: true; steps: PlannedStep[] } | { ok: false; reason: string };

const STEP_ID = /^[A-Za-z0-9_-]{1,64}$/;
const FENCED = /^```(?:json)?[ \t]*\r?\n([\s\S]*?)\r?\n?```$/;
const STEP_FIELDS = new Set(['id', 'tool', 'arguments', 'after', 'max_attempts']);

/** The conversation with the order to plan in front; a system message of the caller stays, before it. */
export function planMessages(messages: readonly ChatMessage[], tools: OfferedTools): ChatMessage[] {
  const order = planOrder(tools);
  const [first, ...rest] = messages;
  if (first?.role !== Role.ROLE_SYSTEM) return [textMessage(Role.ROLE_SYSTEM, order), ...messages];
  return [{ ...first, content: `${first.content}\n\n${order}` }, ...rest];
}

function planOrder(tools: OfferedTools): string {
  const list = tools
    .all()
    .map(({ name, description, schemaJson }) => JSON.stringify({ name, description, arguments: schemaJson }));
  return `Plan how to fulfil the user's request with these tools, one per line with the JSON Schema of its arguments:
${list.join('\n')}

Answer with one JSON object and nothing else:
{"steps": [{"id": "a", "tool": "NAME", "arguments": {}, "after": [], "max_attempts": 2}]}
"id": letters, digits, - and _. "arguments": as the tool's schema says. "after": ids of steps that must have ended well first;
steps that do not wait for one another run side by side. Inside a string of "arguments", "\${steps.ID.content}" stands for what
the step ID gave. "max_attempts": 1 to ${STEP_ATTEMPTS_MAX}, may be left out. At least one step, at most ${PLAN_STEPS_MAX}, no cycles.`;
}

/** What the model hears of a plan that is refused. */
export function refusalMessage(reason: string): ChatMessage {
  return textMessage(
    Role.ROLE_USER,
    `This plan is not valid: ${reason}. Answer with the corrected plan as one JSON object and nothing else.`,
  );
}

const refuse = (reason: string): { ok: false; reason: string } => ({ ok: false, reason });

/** The plan in a turn's content: one JSON object, alone or in one code fence. */
export function readPlan(content: string, tools: OfferedTools): ReadPlan {
  const text = content.trim();
  if (Buffer.byteLength(text) > PLAN_TEXT_BYTES_MAX) return refuse(`expected at most ${PLAN_TEXT_BYTES_MAX} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(FENCED.exec(text)?.[1] ?? text);
  } catch (error) {
    return refuse(`expected one JSON object, got text that does not parse (${(error as Error).message.slice(0, 120)})`);
  }
  if (!isJsonObject(value) || !Array.isArray(value.steps)) return refuse('expected an object with an array "steps"');
  const other = Object.keys(value).find((key) => key !== 'steps');
  if (other !== undefined) return refuse(`unknown field "${other.slice(0, 64)}"; expected "steps" only`);
  const count = value.steps.length;
  if (count < 1 || count > PLAN_STEPS_MAX) return refuse(`expected 1..${PLAN_STEPS_MAX} steps, got ${count}`);
  const steps: PlannedStep[] = [];
  for (const [i, given] of value.steps.entries()) {
    const step = readStep(given, tools);
    if (typeof step === 'string') return refuse(`steps[${i}]: ${step}`);
    if (steps.some(({ id }) => id === step.id)) return refuse(`steps[${i}]: the id "${step.id}" stands twice`);
    steps.push(step);
  }
  return inOrder(steps);
}

/** A step, or what is wrong with it. */
function readStep(given: unknown, tools: OfferedTools): PlannedStep | string {
  if (!isJsonObject(given)) return 'expected an object';
  const other = Object.keys(given).find((key) => !STEP_FIELDS.has(key));
  if (other !== undefined) return `unknown field "${other.slice(0, 64)}"; expected ${[...STEP_FIELDS].join(', ')}`;
  const { id, tool, arguments: args = {}, after = [], max_attempts: maxAttempts = STEP_ATTEMPTS_USUAL } = given;
  if (typeof id !== 'string' || !STEP_ID.test(id)) return 'id: expected 1..64 letters, digits, - and _';
  const offered = typeof tool === 'string' ? tools.get(tool) : null;
  if (!offered)
    return `tool: expected one of ${tools.names.join(', ')}, got ${JSON.stringify(tool ?? null).slice(0, 64)}`;
  if (!isJsonObject(args)) return 'arguments: expected an object';
  const attempts = Number.isInteger(maxAttempts) ? (maxAttempts as number) : 0;
  if (attempts < 1 || attempts > STEP_ATTEMPTS_MAX) return `max_attempts: expected 1..${STEP_ATTEMPTS_MAX}`;
  const isIds = Array.isArray(after) && after.every((one) => typeof one === 'string' && STEP_ID.test(one));
  if (!isIds) return 'after: expected an array of step ids';
  const problem = argumentsProblem(args, offered.schemaJson);
  if (problem !== null) return problem;
  const references = referencesOf(args);
  if (!references.ok) return references.reason;
  const needed = [...new Set([...(after as string[]), ...references.ids])];
  return { id, tool: offered.name, arguments: args, after: needed, maxAttempts: attempts };
}

function argumentsProblem(args: JsonObject, schemaJson: string): string | null {
  if (depthOf(args, CALL_ARGUMENTS_DEPTH_MAX) > CALL_ARGUMENTS_DEPTH_MAX) {
    return `arguments: expected at most ${CALL_ARGUMENTS_DEPTH_MAX} levels`;
  }
  const size = Buffer.byteLength(JSON.stringify(args));
  if (size > CALL_ARGUMENTS_BYTES_MAX)
    return `arguments: expected at most ${CALL_ARGUMENTS_BYTES_MAX} bytes, got ${size}`;
  return schemaProblem(schemaJson, args);
}

/** The steps in an order in which they could run: the plan's own where it allows. */
function inOrder(steps: readonly PlannedStep[]): ReadPlan {
  const ids = new Set(steps.map(({ id }) => id));
  for (const { id, after } of steps) {
    const missing = after.find((one) => !ids.has(one));
    if (missing !== undefined) return refuse(`step "${id}" needs a step "${missing}", which is not in the plan`);
  }
  const ordered: PlannedStep[] = [];
  const placed = new Set<string>();
  while (ordered.length < steps.length) {
    const next = steps.find(({ id, after }) => !placed.has(id) && after.every((one) => placed.has(one)));
    if (!next) {
      const stuck = steps.filter(({ id }) => !placed.has(id)).map(({ id }) => id);
      return refuse(`steps wait for one another in a cycle: ${stuck.slice(0, 8).join(', ')}`);
    }
    placed.add(next.id);
    ordered.push(next);
  }
  return { ok: true, steps: ordered };
}

export function planStepMessage({ id, tool, arguments: args, after, maxAttempts }: PlannedStep): PlanStep {
  return { id, tool, argumentsJson: JSON.stringify(args), after, maxAttempts };
}
