// Reading what operators write, YAML or JSON: bounded, one value per key, and mistakes with file, line and path.
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { type Document, isNode, isScalar, LineCounter, parseDocument, visit } from 'yaml';
import { z } from 'zod';
import { QuernError } from '#kit/errors.ts';
import { nearest } from '#kit/nearest.ts';
import { describeIssue } from '#kit/schema-errors.ts';
import type { LimitsPart } from './definition.ts';
import { PACK_YAML_ALIASES_MAX } from './tool-limits.ts';

/** Edits from what was written to what may have been meant. */
const MISSPELT_EDITS_MAX = 3;
const KIB = 1024;
const MIB = 1024 * KIB;

const count = (max: number) => z.int().min(1).max(max).optional();

/** Bounds of a call as they are written in packs and in the policy; a tool never gets more than the host's. */
export const limitsShape = {
  wall_ms: count(300_000),
  cpu_ms: count(300_000),
  memory_mib: z.int().min(16).max(65_536).optional(),
  pids: count(4_096),
  open_files: z.int().min(16).max(4_096).optional(),
  file_mib: count(4_096),
  output_kib: count(65_536),
  tmp_mib: count(1_024),
  model_output_kib: count(1_024),
};
const limitsSchema = z.strictObject(limitsShape);

const times = (value: number | undefined, unit: number): number | undefined =>
  value === undefined ? undefined : value * unit;

/** In the sandbox's units. */
export function limitsFrom(written: z.infer<typeof limitsSchema>): {
  limits: LimitsPart;
  modelOutputBytes: number | undefined;
} {
  const limits = {
    wallMs: written.wall_ms,
    cpuMs: written.cpu_ms,
    memoryBytes: times(written.memory_mib, MIB),
    pids: written.pids,
    openFiles: written.open_files,
    fileBytes: times(written.file_mib, MIB),
    outputBytes: times(written.output_kib, KIB),
    tmpBytes: times(written.tmp_mib, MIB),
  };
  return { limits, modelOutputBytes: times(written.model_output_kib, KIB) };
}

function invalid(message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'SETTINGS_INVALID' });
}

/** "tools[2].name" */
function pathText(path: readonly PropertyKey[]): string {
  return path.map((one, i) => (typeof one === 'number' ? `[${one}]` : `${i === 0 ? '' : '.'}${String(one)}`)).join('');
}

/** A regular file's text, at most `bytesMax`. Throws INVALID_ARGUMENT for larger ones and what is not a file. */
export async function readSettingsFile(path: string, bytesMax: number): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO without a writer would hold open() for ever
  try {
    const { size } = await file.stat().then((stat) => (stat.isFile() ? stat : { size: -1 }));
    if (size < 0) throw invalid('expected a file');
    if (size > bytesMax) throw invalid(`expected at most ${bytesMax} bytes, got ${size}`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/** The parser's own check compares every key with every other one. */
function refuseEqualKeys(document: Document.Parsed, lines: LineCounter): void {
  visit(document, {
    Map(_, { items }) {
      const seen = new Set<string>();
      for (const { key } of items) {
        const name = isScalar(key) ? String(key.value) : String(key);
        const { line, col } = lines.linePos((isNode(key) && key.range?.[0]) || 0);
        if (seen.has(name)) throw invalid(`line ${line}, column ${col}: the key ${JSON.stringify(name)} stands twice`);
        seen.add(name);
      }
    },
  });
}

/** The value of a text in YAML or JSON. Throws INVALID_ARGUMENT with line and column. */
export function parseSettings(text: string): unknown {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false, prettyErrors: false, version: '1.2' });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw invalid(`line ${line}, column ${col}: ${error.message}`);
  }
  refuseEqualKeys(document, lines);
  try {
    return document.toJS({ maxAliasCount: PACK_YAML_ALIASES_MAX });
  } catch (cause) {
    throw invalid((cause as Error).message);
  }
}

/** What lies in a schema at one step of a path, without defaults and the like around it. */
function stepInto(schema: z.core.$ZodType, step: PropertyKey | null): z.core.$ZodType | null {
  let inner: z.core.$ZodType = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault) inner = inner.def.innerType;
  if (step === null) return inner;
  if (inner instanceof z.ZodObject) return inner.shape[String(step)] ?? null;
  if (inner instanceof z.ZodRecord) return inner.valueType;
  return inner instanceof z.ZodArray ? inner.element : null;
}

/** Keys that an object at this place may have. */
function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  let at: z.core.$ZodType | null = schema;
  for (const step of [...path, null]) at = at && stepInto(at, step);
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

/** `has no field "comand"; did you mean "command"?` */
function misspelt(keys: readonly string[], known: readonly string[]): string {
  const named = keys.map((key) => {
    const meant = nearest(key, known, MISSPELT_EDITS_MAX);
    return `${JSON.stringify(key.slice(0, 60))}${meant === null ? '' : ` (did you mean "${meant}"?)`}`;
  });
  return `has no field ${named.join(', ')}`;
}

/** The value as the schema has it. Throws INVALID_ARGUMENT with the path of the first mistake, a misspelt key before all others. */
export function shaped<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value, { error: describeIssue });
  if (result.success) return result.data;
  const { issues } = result.error;
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
  const path = pathText(issue?.path ?? []);
  const said = issue?.code === 'unrecognized_keys' ? misspelt(issue.keys, keysAt(schema, issue.path)) : issue?.message;
  throw invalid(`${path === '' ? '' : `${path}: `}${said ?? 'not valid'}`);
}
