// A tool as the contract shows it, with the policy of the tenant that asks.
import { Decision, type Limits, ToolKind, type Tool as ToolMessage } from '#gen/quern/tools/v1/tools.ts';
import type { Verdict } from './call-ports.ts';
import type { Decision as DecisionWord, ToolKind as KindWord, Tool } from './tool.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const KINDS: Readonly<Record<KindWord, ToolKind>> = {
  builtin: ToolKind.TOOL_KIND_BUILTIN,
  command: ToolKind.TOOL_KIND_COMMAND,
  mcp: ToolKind.TOOL_KIND_MCP,
};

const DECISIONS: Readonly<Record<DecisionWord, Decision>> = {
  allow: Decision.DECISION_ALLOW,
  ask: Decision.DECISION_ASK,
  deny: Decision.DECISION_DENY,
};

function limitsOf({ policy: { limits, modelOutputBytes } }: Verdict): Limits {
  return {
    wallMs: limits.wallMs,
    cpuMs: limits.cpuMs,
    memoryMib: Math.floor(limits.memoryBytes / MIB),
    pids: limits.pids,
    outputKib: Math.floor(limits.outputBytes / KIB),
    modelOutputKib: Math.floor(modelOutputBytes / KIB),
  };
}

export function toolMessage(tool: Tool, verdict: Verdict): ToolMessage {
  const { name, version, kind, description, inputSchema, outputSchema, annotations, sha256 } = tool.definition;
  return {
    name,
    version,
    kind: KINDS[kind],
    description,
    inputSchemaJson: JSON.stringify(inputSchema),
    outputSchemaJson: outputSchema === null ? '' : JSON.stringify(outputSchema),
    annotations: { ...annotations },
    decision: DECISIONS[verdict.decision],
    limits: limitsOf(verdict),
    sha256: Buffer.from(sha256, 'hex'),
    unavailable: tool.unavailable() ?? '',
    notConfigured: tool.isUnset ?? false,
  };
}
