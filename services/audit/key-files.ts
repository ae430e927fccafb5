// The keys of the audit log: made at the first start, 0600, in a folder of their own. Whoever has them can sign a false log or
// read who a pseudonym is, so they lie neither beside the ledger nor in its backups.
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { newSigningKey } from '#kit/audit/checkpoint.ts';

async function readIfThere(path: string): Promise<Buffer | null> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
}

/** What the file holds; made by `make` when it is not there. Two processes that make it at once get the same. */
async function readOrMake(path: string, make: () => Buffer | string): Promise<Buffer> {
  const there = await readIfThere(path);
  if (there) return there;
  const temporary = `${path}.${process.pid}.new`;
  const file = await open(temporary, 'w', 0o600);
  await file.writeFile(make());
  await file.datasync();
  await file.close();
  await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await rm(temporary, { force: true });
  return readFile(path);
}

export type AuditKeys = {
  /** PKCS #8 PEM, Ed25519. */
  signing: string;
  /** 32 bytes. */
  vault: Buffer;
  vaultPath: string;
};

export async function auditKeys(dir: string): Promise<AuditKeys> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  return {
    signing: (await readOrMake(join(dir, 'signing-key.pem'), newSigningKey)).toString('utf8'),
    vault: await readOrMake(join(dir, 'vault-key'), () => randomBytes(32)),
    vaultPath: join(dir, 'vault.sqlite'),
  };
}
