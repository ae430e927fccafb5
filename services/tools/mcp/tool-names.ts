// `server__tool`: the name by which a model knows a server's tool, whatever the server calls it.
import { sha256Hex } from '#kit/secure.ts';
import { MCP_SERVER_NAME_CHARS_MAX } from './limits.ts';

const TOOL_NAME_CHARS_MAX = 64;
const DIGEST_CHARS = 8;

/** Without "__" and without "_" at its ends: the first "__" of a tool's name ends the server's. */
export function isServerName(name: string): boolean {
  return name.length <= MCP_SERVER_NAME_CHARS_MAX && /^[a-z0-9]+(?:[_-][a-z0-9]+)*$/.test(name);
}

/** The server of a registered name; "" for other tools. */
export function serverOf(name: string): string {
  return name.includes('__') ? name.slice(0, name.indexOf('__')) : '';
}

/**
 * The registered name of a server's tool. A name that has other characters than [A-Za-z0-9_-], or is too long, is changed and
 * ends in a digest of the original, so that two never become one by it.
 */
export function registeredName(server: string, tool: string): string {
  const plain = `${server}__${tool}`;
  if (/^[A-Za-z0-9_-]+$/.test(tool) && plain.length <= TOOL_NAME_CHARS_MAX) return plain;
  const digest = sha256Hex(tool.toWellFormed()).slice(0, DIGEST_CHARS);
  const readable = `${server}__${tool.replaceAll(/[^A-Za-z0-9_-]+/g, '_')}`;
  return `${readable.slice(0, TOOL_NAME_CHARS_MAX - DIGEST_CHARS - 1)}_${digest}`;
}
