// Who may run what, and with how much: the tool's own policy, made stricter by the tenant's and the host's. Nothing here makes
// anything looser, and neither do annotations, which a tool's author writes.
import { z } from 'zod';
import { addTaint, type Taint } from '#kit/taint.ts';
import { canonicalSha256 } from './canonical.ts';
import { type LimitsPart, lowestLimits } from './definition.ts';
import { limitsFrom, limitsShape, parseSettings, readSettingsFile, shaped } from './settings-file.ts';
import type { Annotations, Decision, ToolDefinition, ToolPolicy } from './tool.ts';
import { HOST_LIMITS, HOST_MODEL_OUTPUT_BYTES, POLICY_BYTES_MAX, POLICY_TENANTS_MAX } from './tool-limits.ts';

export type PolicyRule = {
  readonly decision: Decision;
  readonly limits: LimitsPart;
  readonly modelOutputBytes: number;
};

/** Rules by tool name; a name may end in "*". */
export type PolicyScope = PolicyRule & { readonly tools: ReadonlyMap<string, PolicyRule> };

export const ASK_WHEN = ['destructive', 'open_world', 'destructive_open_world', 'not_read_only'] as const;
export type AskWhen = (typeof ASK_WHEN)[number];

export type Policy = {
  readonly host: PolicyScope;
  readonly tenants: ReadonlyMap<string, PolicyScope>;
  /** Annotations that make an allowed tool ask. */
  readonly askWhen: readonly AskWhen[];
};

const STRICTNESS: readonly Decision[] = ['allow', 'ask', 'deny'];

const strictest = (decisions: readonly Decision[]): Decision =>
  decisions.reduce((a, b) => (STRICTNESS.indexOf(b) > STRICTNESS.indexOf(a) ? b : a), 'allow');

const ruleShape = { decision: z.enum(['allow', 'ask', 'deny']).optional(), ...limitsShape };
const ruleSchema = z.strictObject(ruleShape);
const toolName = z
  .string()
  .regex(/^[A-Za-z0-9_-]{0,64}\*?$/, { error: 'expected the name of a tool, or its beginning and "*"' });
const scopeShape = { ...ruleShape, tools: z.record(toolName, ruleSchema).optional() };
const policySchema = z.strictObject({
  ...scopeShape,
  ask_when: z.array(z.enum(ASK_WHEN)).optional(),
  tenants: z
    .record(z.string().regex(/^[a-z0-9._-]{1,64}$/, { error: 'expected a tenant' }), z.strictObject(scopeShape))
    .optional(),
});

function ruleFrom({ decision = 'allow', ...written }: z.infer<typeof ruleSchema>): PolicyRule {
  const { limits, modelOutputBytes = HOST_MODEL_OUTPUT_BYTES } = limitsFrom(written);
  return { decision, limits, modelOutputBytes };
}

function scopeFrom({ tools = {}, ...rule }: z.infer<z.ZodObject<typeof scopeShape>>): PolicyScope {
  const rules = Object.entries(tools).map(([name, one]) => [name, ruleFrom(one)] as const);
  return { ...ruleFrom(rule), tools: new Map(rules) };
}

/** What holds without a policy file: a destructive tool that reaches beyond the sandbox asks. */
export const DEFAULT_POLICY: Policy = {
  host: scopeFrom({}),
  tenants: new Map(),
  askWhen: ['destructive_open_world'],
};

/** A policy as written, see docs/tools.md. Throws INVALID_ARGUMENT with line or path. */
export function parsePolicy(text: string): Policy {
  const value = parseSettings(text) ?? {};
  const { tenants = {}, ask_when = [...DEFAULT_POLICY.askWhen], ...host } = shaped(policySchema, value);
  const scopes = Object.entries(tenants).map(([tenant, scope]) => [tenant, scopeFrom(scope)] as const);
  if (scopes.length > POLICY_TENANTS_MAX) shaped(z.never(), tenants);
  return { host: scopeFrom(host), tenants: new Map(scopes), askWhen: ask_when };
}

/** Reads a policy file. Throws as parsePolicy does; a service that cannot read its policy must not start. */
export async function readPolicy(path: string): Promise<Policy> {
  return parsePolicy(await readSettingsFile(path, POLICY_BYTES_MAX));
}

/** All rules of a scope that mean a tool: its default, its name, every beginning with "*". */
function rulesFor(scope: PolicyScope | undefined, name: string): PolicyRule[] {
  if (!scope) return [];
  const named = [...scope.tools].filter(([pattern]) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name,
  );
  return [scope, ...named.map(([, rule]) => rule)];
}

function asks(annotations: Annotations, askWhen: readonly AskWhen[]): boolean {
  const { readOnly, destructive, openWorld } = annotations;
  const holds: Record<AskWhen, boolean> = {
    destructive,
    open_world: openWorld,
    destructive_open_world: destructive && openWorld,
    not_read_only: !readOnly,
  };
  return askWhen.some((when) => holds[when]);
}

/** What holds for a call of this tool by this tenant: the strictest decision and the lowest limits of tool, tenant and host. */
export function effectivePolicy(definition: ToolDefinition, tenant: string, policy: Policy): ToolPolicy {
  const own = definition.policy;
  const rules = [...rulesFor(policy.host, definition.name), ...rulesFor(policy.tenants.get(tenant), definition.name)];
  const annotated: Decision = asks(definition.annotations, policy.askWhen) ? 'ask' : 'allow';
  return {
    decision: strictest([own.decision, annotated, ...rules.map(({ decision }) => decision)]),
    limits: lowestLimits(own.limits, HOST_LIMITS, ...rules.map(({ limits }) => limits)),
    modelOutputBytes: Math.min(own.modelOutputBytes, ...rules.map(({ modelOutputBytes }) => modelOutputBytes)),
    taint: own.taint,
  };
}

/** Names a policy in the digest that an approval binds. */
export function policySha256(policy: ToolPolicy): string {
  return canonicalSha256({ ...policy });
}

/**
 * Whether a call must be approved because of what the conversation has touched: it completes {read untrusted text, has
 * private data, can send data out}, or it can send data out when all three are there already. One approval opens one call.
 */
export function taintNeedsApproval(conversation: Taint, call: Taint): boolean {
  const full = ({ readUntrusted, hasPrivate, canExfiltrate }: Taint): boolean =>
    readUntrusted && hasPrivate && canExfiltrate;
  return full(addTaint(conversation, call)) && (!full(conversation) || call.canExfiltrate);
}
