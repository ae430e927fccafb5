// Which tenants have the text of their prompts and answers kept, and how much of it. A tenant that the file does not name keeps
// none. What is kept is always redacted; the setting stands in the file so that whoever writes it has read it.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { QuernError } from '#kit/errors.ts';
import { describeIssue } from '#kit/schema-errors.ts';
import { CONTENT_BYTES_MAX, CONTENT_POLICY_TENANTS_MAX } from './limits.ts';
import { canonicalBytes, sha256Hex } from './record.ts';

const TENANT = /^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}$/;
const CONTENT_BYTES_MIN = 256;

const tenantSchema = z.strictObject({
  prompts: z.boolean(),
  responses: z.boolean(),
  /** UTF-8 bytes that are kept of one prompt or answer. */
  max_bytes: z.int().min(CONTENT_BYTES_MIN).max(CONTENT_BYTES_MAX),
  redact: z.literal(true, { error: 'expected true: content is never kept unredacted' }),
});
const fileSchema = z.strictObject({ version: z.literal(1), tenants: z.record(z.string(), tenantSchema) });

export type ContentPolicy = z.infer<typeof tenantSchema> & {
  /** SHA-256 of these settings, for a record's `policy_sha`. */
  sha: string;
};

/** By tenant. */
export type ContentPolicies = ReadonlyMap<string, ContentPolicy>;

export const NO_CONTENT: ContentPolicies = new Map();

function invalid(path: string, problem: string): QuernError {
  const message = `${path}: ${problem}`;
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'AUDIT_CONTENT_POLICY_INVALID' });
}

const EXPECTED =
  'expected JSON {"version": 1, "tenants": {"NAME": {"prompts": true, "responses": false, "max_bytes": 65536, "redact": true}}}';

/** Mistakes that one message names. */
const MISTAKES_SHOWN_MAX = 20;

function refused(path: string, mistakes: readonly string[]): QuernError {
  if (mistakes.length === 1) return invalid(path, `${mistakes[0]}; ${EXPECTED}`);
  const more = mistakes.length - MISTAKES_SHOWN_MAX;
  const lines = [...mistakes.slice(0, MISTAKES_SHOWN_MAX), ...(more > 0 ? [`and ${more} more`] : [])];
  return invalid(path, `${mistakes.length} mistakes:\n${lines.map((line) => `  ${line}\n`).join('')}${EXPECTED}`);
}

function tenantMistakes(names: readonly string[]): string[] {
  if (names.length > CONTENT_POLICY_TENANTS_MAX) {
    return [`tenants: expected at most ${CONTENT_POLICY_TENANTS_MAX}, got ${names.length}`];
  }
  const wrong = names.filter((name) => !TENANT.test(name));
  return wrong.map((name) => `tenants: expected names as in the keys file, got ${JSON.stringify(name.slice(0, 60))}`);
}

/** Reads the file's text. Throws INVALID_ARGUMENT naming every wrong place, as far as one message holds them. */
export function parseContentPolicy(text: string, path: string): ContentPolicies {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw invalid(path, EXPECTED);
  }
  const parsed = fileSchema.safeParse(json, { error: describeIssue });
  const named = (json as { tenants?: unknown } | null)?.tenants;
  const names = typeof named === 'object' && named !== null ? Object.keys(named) : [];
  const issues = parsed.error?.issues ?? [];
  const mistakes = [
    ...issues.map((issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`),
    ...tenantMistakes(names),
  ];
  if (!parsed.success || mistakes.length > 0) throw refused(path, mistakes);
  return new Map(
    Object.entries(parsed.data.tenants).map(([tenant, policy]) => [
      tenant,
      { ...policy, sha: sha256Hex(canonicalBytes(policy)) },
    ]),
  );
}

/** Throws INVALID_ARGUMENT when the file is not valid, FAILED_PRECONDITION when it cannot be read. */
export async function readContentPolicy(path: string): Promise<ContentPolicies> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const message = `${path}: expected a readable file of the audit content policy, got ${cause.code ?? 'an error'}`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'AUDIT_CONTENT_POLICY_UNREADABLE' }, { cause });
  });
  return parseContentPolicy(text, path);
}
