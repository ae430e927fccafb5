// The keys of the audit log. Whoever has them can sign a false log or read who a pseudonym is, so they lie neither beside the
// ledger nor in its backups.
import { newSigningKey } from '#kit/audit/checkpoint.ts';
import { readOrMakeKey, vaultKey } from '#kit/audit/key-folder.ts';

export type AuditKeys = {
  /** PKCS #8 PEM, Ed25519. */
  signing: string;
  /** 32 bytes. */
  vault: Buffer;
  vaultPath: string;
};

export async function auditKeys(dir: string): Promise<AuditKeys> {
  const signing = await readOrMakeKey(dir, 'signing-key.pem', newSigningKey);
  const { path: vaultPath, key: vault } = await vaultKey(dir);
  return { signing: signing.toString('utf8'), vault, vaultPath };
}
