// How much of a model's context the definitions of tools take: for choosing those that leave room, and for saying so when they do not.
import { ParseSpecial, type ToolDefinition } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { SHORTEN } from './engine-request.ts';
import { TOOLS_BLAMED_SHARE } from './limits.ts';
import type { TokenizerCall, TokenizerClient } from './tokenizer-client.ts';

type Encoder = Pick<TokenizerClient, 'encode'>;

function jsonOf({ name, description, parametersSchemaJson }: ToolDefinition): string {
  const told = `"name": "${name}", "description": ${JSON.stringify(description)}, "parameters": ${parametersSchemaJson}`;
  return `{"type": "function", "function": {${told}}}`;
}

/** At least as many as tokens: no token is shorter than a byte. */
export function definitionBytes(tools: readonly ToolDefinition[]): number {
  return tools.reduce((sum, tool) => sum + Buffer.byteLength(jsonOf(tool)), 0);
}

/** Tokens of each definition written as JSON; a template makes about as many of it. Throws what the tokenizer throws. */
export function definitionTokens(
  tokenizer: Encoder,
  model: string,
  tools: readonly ToolDefinition[],
  call: TokenizerCall,
): Promise<number[]> {
  return Promise.all(
    tools.map(async (tool) => {
      const request = { model, text: jsonOf(tool), parseSpecial: ParseSpecial.PARSE_SPECIAL_NONE, addBos: false };
      return (await tokenizer.encode(request, call)).length;
    }),
  );
}

/** `thrown`, or for a prompt that is too long because of its tools the same error with what they take and what to do. */
export async function explainLength(
  thrown: unknown,
  tokenizer: Encoder,
  from: { model: string; tools: readonly ToolDefinition[]; contextLength: number },
  call: TokenizerCall,
): Promise<unknown> {
  const { model, tools, contextLength } = from;
  const isLength = thrown instanceof QuernError && thrown.details.reason === 'CONTEXT_LENGTH_EXCEEDED';
  if (!isLength || tools.length === 0) return thrown;
  const counts = await definitionTokens(tokenizer, model, tools, call).catch(() => null);
  const tokens = counts?.reduce((sum, count) => sum + count, 0) ?? 0;
  if (tokens < contextLength * TOOLS_BLAMED_SHARE) return thrown;
  const who =
    tools.length === 1 ? 'the definition of its tool takes' : `the definitions of its ${tools.length} tools take`;
  const message = thrown.message.replace(
    SHORTEN,
    `${who} about ${tokens} of the ${contextLength}: name fewer in "tools"`,
  );
  const details = { ...thrown.details, fields: [{ field: 'tools', description: message }] };
  return new QuernError(thrown.code, message, details, { cause: thrown });
}
