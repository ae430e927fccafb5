// The registry with the policy over it: which tools there are, and what holds for a call of one.
import type { Taint } from '#kit/taint.ts';
import type { ToolCatalog, Verdict } from './call-ports.ts';
import { effectivePolicy, type Policy, policySha256, taintNeedsApproval } from './policy.ts';
import type { Registry } from './registry.ts';
import type { Tool } from './tool.ts';

const TAINT_REASON =
  'this conversation has read text that neither user nor operator wrote, has seen private data, and this call could send data out';

function verdictOf(tool: Tool, tenant: string, conversation: Taint, policy: Policy): Verdict {
  const effective = effectivePolicy(tool.definition, tenant, policy);
  const { name } = tool.definition;
  const verdict = { policy: effective, sha: policySha256(effective) };
  if (effective.decision === 'deny')
    return { ...verdict, decision: 'deny', reason: `the policy does not allow ${name}` };
  if (taintNeedsApproval(conversation, effective.taint)) return { ...verdict, decision: 'ask', reason: TAINT_REASON };
  if (effective.decision === 'ask')
    return { ...verdict, decision: 'ask', reason: `the policy asks before ${name} runs` };
  return { ...verdict, decision: 'allow', reason: '' };
}

export function createCatalog(
  registry: Pick<Registry, 'list' | 'get' | 'check' | 'checkResult'>,
  /** The one in force now. */
  policy: () => Policy,
): ToolCatalog {
  return {
    list: () => registry.list(),
    get: (name) => registry.get(name),
    check: (tool, argumentsJson, options) => registry.check(tool, argumentsJson, options),
    checkResult: (tool, json, options) => registry.checkResult(tool, json, options),
    verdict: (tool, { tenant, taint }) => verdictOf(tool, tenant, taint, policy()),
  };
}
