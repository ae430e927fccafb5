// The keys of the audit log. Whoever has them can sign a false log or read who a pseudonym is, so they lie neither beside the
// ledger nor in its backups.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { newSigningKey } from '#kit/audit/checkpoint.ts';
import { readOrMakeKey, SIGNING_KEY_FILE, vaultKey } from '#kit/audit/key-folder.ts';
import { QuernError } from '#kit/errors.ts';

/** signingKeyDir null: the signing key lies in keyDir too. */
export type KeyFolders = { keyDir: string; signingKeyDir: string | null };

export type AuditKeys = {
  /** PKCS #8 PEM, Ed25519. */
  signing: string;
  /** 32 bytes. */
  vault: Buffer;
  vaultPath: string;
};

/** A log that is signed by another key all of a sudden is a forged one to whoever looks: so none is made beside an old one. */
function requireNoOther(keyDir: string, signingKeyDir: string): void {
  const old = join(keyDir, SIGNING_KEY_FILE);
  if (!existsSync(old) || existsSync(join(signingKeyDir, SIGNING_KEY_FILE))) return;
  throw new QuernError(
    'FAILED_PRECONDITION',
    `QUERN_AUDIT_SIGNING_KEY_DIR: ${signingKeyDir} has no ${SIGNING_KEY_FILE}, but ${old} is there; move it, so that the log keeps its key`,
  );
}

/** Makes what is not there. Throws FAILED_PRECONDITION when the signing key lies where it lay before it had a folder of its own. */
export async function auditKeys({ keyDir, signingKeyDir }: KeyFolders): Promise<AuditKeys> {
  if (signingKeyDir !== null) requireNoOther(keyDir, signingKeyDir);
  const signing = await readOrMakeKey(signingKeyDir ?? keyDir, SIGNING_KEY_FILE, newSigningKey);
  const { path: vaultPath, key: vault } = await vaultKey(keyDir);
  return { signing: signing.toString('utf8'), vault, vaultPath };
}
