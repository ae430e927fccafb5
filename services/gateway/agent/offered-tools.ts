// The tools that a level of a run may use: those of the tool service that were asked for and can run, and the server's own
// tool that starts a nested run.
import type { ToolDefinition } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { Decision, type Tool } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { invalidArgument } from '../typed-request.ts';
import { NESTED_TASK_CHARS_MAX, RUN_TOOLS_MAX } from './limits.ts';

/** Name of the tool that starts a nested run. A tool of that name at the tool service is never used. */
export const AGENT_TOOL = 'agent';

const AGENT_SCHEMA = {
  type: 'object',
  properties: {
    task: {
      type: 'string',
      minLength: 1,
      maxLength: NESTED_TASK_CHARS_MAX,
      description: 'What to do, complete in itself',
    },
    tools: {
      type: 'array',
      items: { type: 'string' },
      description: 'Names of the tools it may use; absent: the same as here',
    },
  },
  required: ['task'],
  additionalProperties: false,
};

/** What the model is told of a tool, and what a check of its arguments needs. */
export type OfferedTool = {
  name: string;
  description: string;
  schemaJson: string;
  /** Twice the same arguments is as once. */
  idempotent: boolean;
  /** Null: the tool that starts a nested run. */
  sha256: Buffer | null;
};

const agentTool: OfferedTool = {
  name: AGENT_TOOL,
  description:
    'Gives a part of the work to another agent and returns its answer. It sees nothing of this conversation but the task.',
  schemaJson: JSON.stringify(AGENT_SCHEMA),
  idempotent: false,
  sha256: null,
};

export class OfferedTools {
  readonly #tools: ReadonlyMap<string, OfferedTool>;

  constructor(tools: readonly OfferedTool[]) {
    this.#tools = new Map(tools.map((tool) => [tool.name, tool]));
  }

  get(name: string): OfferedTool | null {
    return this.#tools.get(name) ?? null;
  }

  get names(): string[] {
    return [...this.#tools.keys()];
  }

  all(): OfferedTool[] {
    return [...this.#tools.values()];
  }

  definitions(): ToolDefinition[] {
    return this.all().map(({ name, description, schemaJson }) => ({
      name,
      description,
      parametersSchemaJson: schemaJson,
      strict: false,
    }));
  }

  /** Those of `names`; all for none. Names that are not offered are left out. `nesting`: nested runs may go on below. */
  narrowed(names: readonly string[] | null, nesting: boolean): OfferedTools {
    const wanted = names === null ? null : new Set(names);
    return new OfferedTools(
      this.all().filter(({ name }) => (wanted?.has(name) ?? true) && (nesting || name !== AGENT_TOOL)),
    );
  }
}

function offered({ name, description, inputSchemaJson, annotations, sha256 }: Tool): OfferedTool {
  const idempotent = annotations?.idempotent === true || annotations?.readOnly === true;
  return { name, description, schemaJson: inputSchemaJson, idempotent, sha256 };
}

function refuse(name: string, description: string): never {
  throw invalidArgument([{ field: 'tools', description: `"${name.slice(0, 64)}": ${description}` }]);
}

/**
 * Of the tools that nobody chose as many as leave the conversation its share of the model's context: those with the shortest
 * definitions first, nested runs last. `tokens`: of each definition, in their order.
 */
export function fittingTools(tools: OfferedTools, tokens: readonly number[], tokensMax: number): OfferedTools {
  const sized = tools.all().map((tool, i) => ({ tool, size: tokens[i] ?? 0 }));
  const rank = ({ tool, size }: (typeof sized)[number]): number => (tool.name === AGENT_TOOL ? tokensMax : 0) + size;
  const chosen = new Set<OfferedTool>();
  let left = tokensMax;
  for (const one of sized.toSorted((a, b) => rank(a) - rank(b))) {
    if (one.size > left) break;
    left -= one.size;
    chosen.add(one.tool);
  }
  return new OfferedTools(tools.all().filter((tool) => chosen.has(tool)));
}

/**
 * The tools of a run out of those that the tool service listed. `names`: as the caller asked; empty for all that can run.
 * Throws INVALID_ARGUMENT for one that is unknown or denied, FAILED_PRECONDITION for one that cannot run now.
 */
export function offeredTools(
  listed: readonly Tool[],
  names: readonly string[],
  { nesting }: { nesting: boolean },
): OfferedTools {
  const known = new Map(listed.filter(({ name }) => name !== AGENT_TOOL).map((tool) => [tool.name, tool]));
  const isUsable = (tool: Tool): boolean => tool.decision !== Decision.DECISION_DENY && tool.unavailable === '';
  if (names.length === 0) {
    const usable = [...known.values()].filter(isUsable).map(offered);
    const tools = nesting ? [...usable, agentTool] : usable;
    if (tools.length <= RUN_TOOLS_MAX) return new OfferedTools(tools);
    const description = `${tools.length} tools are there and a run takes at most ${RUN_TOOLS_MAX}: name those it needs`;
    throw invalidArgument([{ field: 'tools', description }]);
  }
  const tools = [...new Set(names)].flatMap((name) => {
    if (name === AGENT_TOOL) return nesting ? [agentTool] : [];
    const tool = known.get(name);
    if (!tool) return refuse(name, `no such tool; there are ${[...known.keys(), AGENT_TOOL].slice(0, 32).join(', ')}`);
    if (tool.decision === Decision.DECISION_DENY) return refuse(name, "the tool's policy denies it to this caller");
    if (tool.unavailable === '') return [offered(tool)];
    const message = `the tool "${name}" cannot run now: ${tool.unavailable}`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'TOOL_UNAVAILABLE' });
  });
  return new OfferedTools(tools);
}
