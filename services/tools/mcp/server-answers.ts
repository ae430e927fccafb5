// What of a server's answers is read. A schema that checks arrays of any length lets one message cost seconds and hundreds of
// megabytes of issues, so lengths are looked at first, and fields that nobody reads are left out before anything checks them.
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { stripText } from '../model-output.ts';
import { MCP_CONTENT_PARTS_MAX, MCP_WORDS_CHARS_MAX } from './limits.ts';

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isArray = z.custom<unknown[]>((value) => Array.isArray(value));

/** Of tools/list; its tools are not looked at yet. */
export const listSchema = z.object({ tools: isArray, nextCursor: z.string().optional() });

/** Of tools/call; its parts are not looked at yet. */
export const callSchema = z.object({
  content: isArray.default([]),
  structuredContent: z.custom<Record<string, unknown>>(isObject).optional(),
  isError: z.boolean().default(false),
});

const partSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text: z.string() }),
  z.object({ type: z.literal('image'), mimeType: z.string(), data: z.string() }),
  z.object({ type: z.literal('audio'), mimeType: z.string(), data: z.string() }),
  z.object({ type: z.literal('resource_link'), name: z.string(), uri: z.string() }),
  z.object({
    type: z.literal('resource'),
    resource: z.union([
      z.object({ uri: z.string(), text: z.string() }),
      z.object({ uri: z.string(), mimeType: z.string().optional(), blob: z.string() }),
    ]),
  }),
]);

export type ContentPart = z.infer<typeof partSchema>;

export type CallResult = {
  /** The first MCP_CONTENT_PARTS_MAX. */
  readonly content: readonly ContentPart[];
  /** Parts behind them. */
  readonly left: number;
  readonly structuredContent?: Record<string, unknown> | undefined;
  readonly isError: boolean;
};

/** Null: a part is not what the protocol says. */
export function readCallResult({ content, ...rest }: z.infer<typeof callSchema>): CallResult | null {
  const parts: ContentPart[] = [];
  for (const value of content.slice(0, MCP_CONTENT_PARTS_MAX)) {
    const part = partSchema.safeParse(value);
    if (!part.success) return null;
    parts.push(part.data);
  }
  return { ...rest, content: parts, left: content.length - parts.length };
}

/** Leaves of the answer to initialize what this client reads; the SDK checks the rest to its last element. */
export function trimInitialize(message: JSONRPCMessage): void {
  if (!('result' in message) || !isObject(message.result.serverInfo)) return;
  const { protocolVersion, capabilities, serverInfo } = message.result;
  const { name, version } = serverInfo;
  const tools = isObject(capabilities) && isObject(capabilities.tools) ? { tools: {} } : {};
  message.result = { protocolVersion, capabilities: tools, serverInfo: { name, version } };
}

/** Text of a server for results, logs and operators: short, and without what hides or steers. */
export function serverWords(text: string): string {
  return stripText(text.slice(0, 4 * MCP_WORDS_CHARS_MAX))
    .slice(0, MCP_WORDS_CHARS_MAX)
    .toWellFormed();
}
