// The definitions of MCP tools as they were first seen, or accepted since, on disk: what a server says later is compared with them.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { QuernError } from '#kit/errors.ts';
import { writeWholeFile } from '#kit/whole-file.ts';
import type { JsonObject } from '../tool.ts';
import { type ForeignTool, foreignSha256 } from './foreign-tool.ts';
import { MCP_PINS_BYTES_MAX } from './limits.ts';

export type Pin = { readonly sha256: string; readonly seenUnixMs: number; readonly tool: ForeignTool };

export type Pins = {
  /** By the server's own names of its tools. */
  of(server: string): ReadonlyMap<string, Pin>;
  /** Returns when they are on the disk; until then they do not hold. */
  record(server: string, tools: readonly ForeignTool[]): Promise<void>;
};

const jsonObject = z.record(z.string(), z.unknown()).transform((value) => value as JsonObject);
const toolSchema = z.strictObject({
  name: z.string(),
  title: z.string().nullable(),
  description: z.string(),
  inputSchema: jsonObject,
  outputSchema: jsonObject.nullable(),
  annotations: jsonObject,
});
const pinSchema = z.strictObject({ sha256: z.string(), seenUnixMs: z.number(), tool: toolSchema });
const fileSchema = z.strictObject({
  version: z.literal(1),
  servers: z.record(z.string(), z.array(pinSchema)),
});

type Servers = ReadonlyMap<string, ReadonlyMap<string, Pin>>;

function parse(text: string): Servers {
  const { servers } = fileSchema.parse(JSON.parse(text));
  const entries = Object.entries(servers).map(([server, pins]) => {
    for (const { tool, sha256 } of pins) {
      if (foreignSha256(tool) !== sha256) throw new Error(`${server}: ${tool.name} is not what its hash says`);
    }
    return [server, new Map(pins.map((pin) => [pin.tool.name, pin]))] as const;
  });
  return new Map(entries);
}

/** A file that cannot be read is no reason to trust what comes next. */
async function read(path: string): Promise<Servers> {
  try {
    return parse(await readFile(path, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    const message =
      `${path}: the pinned definitions of MCP tools cannot be read (${(cause as Error).message}); ` +
      'restore the file, or remove it and every definition is taken anew as it comes';
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MCP_PINS_UNREADABLE' }, { cause });
  }
}

/** Throws FAILED_PRECONDITION, reason MCP_PINS_UNREADABLE. */
export async function openPins(path: string, now: () => number = Date.now): Promise<Pins> {
  let servers = await read(path);
  let turn: Promise<unknown> = Promise.resolve();

  async function write(server: string, tools: readonly ForeignTool[]): Promise<void> {
    const pins = new Map(servers.get(server));
    for (const tool of tools) pins.set(tool.name, { sha256: foreignSha256(tool), seenUnixMs: now(), tool });
    const next = new Map(servers).set(server, pins);
    const written = Object.fromEntries([...next].map(([name, held]) => [name, [...held.values()]]));
    const text = `${JSON.stringify({ version: 1, servers: written }, null, 1)}\n`;
    const bytes = Buffer.byteLength(text);
    if (bytes > MCP_PINS_BYTES_MAX) {
      throw new QuernError('RESOURCE_EXHAUSTED', `${path}: expected at most ${MCP_PINS_BYTES_MAX} bytes, got ${bytes}`);
    }
    await writeWholeFile(path, text);
    servers = next;
  }

  return {
    of: (server) => servers.get(server) ?? new Map(),
    record(server, tools) {
      const done = turn.then(() => write(server, tools));
      turn = done.catch(() => undefined);
      return done;
    },
  };
}
