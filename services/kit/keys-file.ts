// The file QUERN_KEYS_FILE: who may call, by the hash of a high-entropy token. The token itself is shown once, when
// it is made. Tokens look like qk_<id>_<secret>; the id finds the entry, the whole token must match its hash.
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { QuernError } from './errors.ts';
import type { ParseSpecialCeiling, Principal, Role } from './principal.ts';
import { describeIssue } from './schema-errors.ts';
import { constantTimeEqual, sha256Hex } from './secure.ts';

const CLASSES = ['INVOKED', 'AUTOMATIC', 'CHAT', 'BATCH', 'SPECULATIVE', 'WARM'] as const;
export type PriorityName = (typeof CLASSES)[number];

const NAME = /^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}$/;
const TOKEN = /^qk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}$/;
const LOCK_STALE_MS = 10_000;
const LOCK_TRIES = 50;

const keySchema = z.strictObject({
  id: z.string().regex(/^[0-9a-f]{12}$/),
  /** SHA-256 of the whole token, hex. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  tenant: z.string().regex(NAME),
  user: z.string().regex(NAME),
  role: z.enum(['user', 'admin', 'service']),
  priority_ceiling: z.enum(CLASSES),
  parse_special: z.enum(['none', 'fim', 'all']),
  created: z.iso.datetime(),
  revoked: z.iso.datetime().nullable(),
});
const fileSchema = z.strictObject({ version: z.literal(1), keys: z.array(keySchema).max(100_000) });

/** One entry, as stored. */
export type ApiKey = z.infer<typeof keySchema>;

/** Keys by id. */
export type KeySet = ReadonlyMap<string, ApiKey>;

/** Reads the file's text. Throws INVALID_ARGUMENT naming the first wrong place. */
export function parseKeysFile(text: string, path: string): KeySet {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const message = `${path}: expected JSON {"version": 1, "keys": [...]}; create keys with "quern keys create"`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'KEYS_FILE_INVALID' }, { cause });
  }
  const parsed = fileSchema.safeParse(json, { error: describeIssue });
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const place = issue?.path.join('.') || 'the file';
    const message = `${path}: ${place}: ${issue?.message ?? 'not valid'}; correct it or create keys with "quern keys create"`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'KEYS_FILE_INVALID' });
  }
  const keys = new Map(parsed.data.keys.map((key) => [key.id, key]));
  if (keys.size !== parsed.data.keys.length) {
    throw new QuernError('INVALID_ARGUMENT', `${path}: two keys have one id`, { reason: 'KEYS_FILE_INVALID' });
  }
  return keys;
}

/** The id in a token, or "": it is none of ours. */
export function keyIdOf(token: string): string {
  return TOKEN.exec(token)?.[1] ?? '';
}

/** The principal of a token, or null: malformed, unknown, revoked or not matching. */
export function findPrincipal(keys: KeySet, token: string): Principal | null {
  const id = TOKEN.exec(token)?.[1];
  const key = id === undefined ? undefined : keys.get(id);
  if (!key || key.revoked !== null || !constantTimeEqual(sha256Hex(token), key.hash)) return null;
  return {
    tenant: key.tenant,
    user: key.user,
    role: key.role,
    keyId: key.id,
    priorityCeiling: PriorityClass[`PRIORITY_CLASS_${key.priority_ceiling}`],
    parseSpecialCeiling: key.parse_special,
  };
}

async function readKeys(path: string): Promise<KeySet> {
  try {
    return parseKeysFile(await readFile(path, 'utf8'), path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
}

async function lock(path: string): Promise<() => Promise<void>> {
  const lockPath = `${path}.lock`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  for (let tries = 0; tries < LOCK_TRIES; tries += 1) {
    try {
      await (await open(lockPath, 'wx', 0o600)).close();
      return () => rm(lockPath, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const age = await stat(lockPath).then(
        (s) => Date.now() - s.mtimeMs,
        () => 0,
      );
      if (age > LOCK_STALE_MS) await rm(lockPath, { force: true });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  throw new QuernError('UNAVAILABLE', `${lockPath} is held by another command; remove it if none runs`);
}

/** Replaces the file in one step, durable before it returns: a reader sees the old keys or the new ones, never half. */
async function writeKeys(path: string, keys: KeySet): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(`${JSON.stringify({ version: 1, keys: [...keys.values()] }, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await chmod(temporary, 0o600);
  await rename(temporary, path);
}

async function edit<T>(path: string, change: (keys: Map<string, ApiKey>) => T): Promise<T> {
  const unlock = await lock(path);
  try {
    const keys = new Map(await readKeys(path));
    const result = change(keys);
    await writeKeys(path, keys);
    return result;
  } finally {
    await unlock();
  }
}

export type NewKey = {
  tenant: string;
  user: string;
  role?: Role;
  priorityCeiling?: PriorityName;
  parseSpecial?: ParseSpecialCeiling;
};

/** Adds a key and returns its token, which is stored nowhere. Creates the file (mode 0600) when it is missing. */
export function createKey(path: string, options: NewKey): Promise<{ token: string; key: ApiKey }> {
  for (const field of ['tenant', 'user'] as const) {
    if (!NAME.test(options[field])) {
      const message = `${field}: expected 1..128 letters, digits or ._@:+- beginning with a letter or digit, got "${options[field]}"`;
      return Promise.reject(new QuernError('INVALID_ARGUMENT', message, { fields: [{ field, description: message }] }));
    }
  }
  const id = randomBytes(6).toString('hex');
  const token = `qk_${id}_${randomBytes(32).toString('base64url')}`;
  const key: ApiKey = {
    id,
    hash: sha256Hex(token),
    tenant: options.tenant,
    user: options.user,
    role: options.role ?? 'user',
    priority_ceiling: options.priorityCeiling ?? 'INVOKED',
    parse_special: options.parseSpecial ?? 'all',
    created: new Date().toISOString(),
    revoked: null,
  };
  return edit(path, (keys) => {
    keys.set(id, key);
    return { token, key };
  });
}

/** All keys, revoked ones too, oldest first. An absent file has none. */
export async function listKeys(path: string): Promise<ApiKey[]> {
  return [...(await readKeys(path)).values()];
}

/** Marks a key revoked; a running gateway refuses it within a second. NOT_FOUND for an unknown id. */
export function revokeKey(path: string, id: string): Promise<ApiKey> {
  return edit(path, (keys) => {
    const key = keys.get(id);
    if (!key) throw new QuernError('NOT_FOUND', `no key "${id}" in ${path}; "quern keys list" shows all`);
    const revoked = { ...key, revoked: key.revoked ?? new Date().toISOString() };
    keys.set(id, revoked);
    return revoked;
  });
}
