// What happened to the API keys between two readings of their file.
import type { ApiKey, KeySet } from '#kit/keys-file.ts';

/** policy: what the key may do was changed. */
export type KeyChange = { kind: 'created' | 'revoked' | 'policy'; key: ApiKey };

const POLICY = ['role', 'priority_ceiling', 'parse_special'] as const;

/** In the order of the files: what is new or changed, then what is gone. A key that is gone is revoked. */
export function keyChanges(before: KeySet, after: KeySet): KeyChange[] {
  const changes: KeyChange[] = [];
  for (const key of after.values()) {
    const known = before.get(key.id);
    if (!known) {
      changes.push({ kind: 'created', key });
      if (key.revoked !== null) changes.push({ kind: 'revoked', key });
      continue;
    }
    if (known.revoked === null && key.revoked !== null) changes.push({ kind: 'revoked', key });
    else if (known.revoked !== null && key.revoked === null) changes.push({ kind: 'created', key });
    if (POLICY.some((name) => known[name] !== key[name])) changes.push({ kind: 'policy', key });
  }
  for (const key of before.values()) {
    if (key.revoked === null && !after.has(key.id)) changes.push({ kind: 'revoked', key });
  }
  return changes;
}
