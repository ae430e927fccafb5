// The folder of the audit log's keys, 0700, each key a file of its own, 0600, made at the first start by whoever needs it.
// The vault's key lets a process give pseudonyms; the signing key is read by the audit service alone.
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Vault } from './vault.ts';

/** PKCS #8 PEM, Ed25519. */
export const SIGNING_KEY_FILE = 'signing-key.pem';

const VAULT_KEY_BYTES = 32;

async function readIfThere(path: string): Promise<Buffer | null> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
}

/** What the file holds; made by `make` when it is not there. Two processes that make it at once get the same. */
export async function readOrMakeKey(dir: string, name: string, make: () => Buffer | string): Promise<Buffer> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, name);
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

export async function vaultKey(dir: string): Promise<{ path: string; key: Buffer }> {
  const key = await readOrMakeKey(dir, 'vault-key', () => randomBytes(VAULT_KEY_BYTES));
  return { path: join(dir, 'vault.sqlite'), key };
}

/** The vault of this folder. Throws FAILED_PRECONDITION when its file was made with another key. */
export async function openVault(dir: string): Promise<Vault> {
  const { path, key } = await vaultKey(dir);
  return Vault.open(path, key);
}
