// Who a pseudonym is, and the keys that make a person's records readable. Records hold a random pseudonym, keyed digests and
// sealed facts; this file holds the rest, so that erasing a row here erases the person everywhere, and every proof stays valid.
// Keys: the vault's key (a file) wraps a key per tenant, which wraps a key per subject.
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { QuernError } from '#kit/errors.ts';
import { randomHex } from '#kit/ids.ts';
import { DATABASE_BUSY_MS, VAULT_SUBJECTS_CACHED_MAX } from './limits.ts';
import { type AuditActor, type AuditValue, canonicalBytes } from './record.ts';

export type SubjectId = { tenant: string; kind: AuditActor['kind']; id: string };

export type Subject = SubjectId & {
  /** The pseudonym in records. */
  ref: string;
  /** Keyed digest of content, hex. */
  mac(content: Buffer): string;
  /** Facts about the person as base64 that only this vault can read. */
  seal(facts: { readonly [name: string]: AuditValue }): string;
  /** Content that only this vault can read, bound to its reference; CONTENT_SEAL_BYTES longer than it was. */
  sealContent(content: Buffer, contentRef: string): Buffer;
};

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** What sealing adds to content. */
export const CONTENT_SEAL_BYTES = IV_BYTES + TAG_BYTES;

const SCHEMA = `
CREATE TABLE IF NOT EXISTS tenants (tenant TEXT PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subjects (
  tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, ref TEXT NOT NULL UNIQUE, wrapped BLOB NOT NULL,
  PRIMARY KEY (tenant, kind, id)) WITHOUT ROWID;
`;

/** AES-256-GCM: iv, ciphertext, tag. `context` is bound to it: what was made for one place opens in no other. */
function encrypt(key: Buffer, plain: Buffer, context: string): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(context));
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** Null: another key or context, or changed bytes. */
function decrypt(key: Buffer, sealed: Buffer, context: string): Buffer | null {
  if (sealed.length < IV_BYTES + TAG_BYTES) return null;
  const [iv, tag] = [sealed.subarray(0, IV_BYTES), sealed.subarray(sealed.length - TAG_BYTES)];
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(context));
  decipher.setAuthTag(tag);
  try {
    return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES, sealed.length - TAG_BYTES)), decipher.final()]);
  } catch {
    return null;
  }
}

function derive(key: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), `quern audit ${purpose}`, KEY_BYTES));
}

type SubjectRow = { tenant: string; kind: AuditActor['kind']; id: string; ref: string; wrapped: Uint8Array };

export class Vault {
  readonly #database: DatabaseSync;
  readonly #key: Buffer;
  /** Subjects in use, by tenant, kind and id; emptied when another process has written to the file. */
  readonly #cache = new Map<string, Subject>();
  #version = -1;

  private constructor(database: DatabaseSync, key: Buffer) {
    this.#database = database;
    this.#key = key;
  }

  /** `key`: 32 bytes, kept outside of the file's folder and its backups. Throws FAILED_PRECONDITION for a key of another vault. */
  static open(path: string, key: Buffer): Vault {
    if (key.length !== KEY_BYTES) {
      const message = `audit vault key: expected ${KEY_BYTES} bytes, got ${key.length}`;
      throw new QuernError('INVALID_ARGUMENT', message, { reason: 'AUDIT_VAULT_KEY_INVALID' });
    }
    // From the first statement on: another process may be repairing what a crash left in the write-ahead log.
    const database = new DatabaseSync(path, { timeout: DATABASE_BUSY_MS });
    // Erased keys may not stay in freed pages.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;');
    database.exec(SCHEMA);
    const vault = new Vault(database, key);
    const row = database.prepare('SELECT tenant, wrapped FROM tenants LIMIT 1').get() as
      | { tenant: string; wrapped: Uint8Array }
      | undefined;
    if (row && !decrypt(key, Buffer.from(row.wrapped), `tenant ${row.tenant}`)) {
      database.close();
      const message = `${path} was made with another vault key; give the key file that belongs to it`;
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'AUDIT_VAULT_KEY_WRONG' });
    }
    return vault;
  }

  /** The subject of this id; a new pseudonym and key when it is new, or was erased. */
  subject(id: SubjectId): Subject {
    this.#refresh();
    const name = JSON.stringify([id.tenant, id.kind, id.id]);
    const cached = this.#cache.get(name);
    if (cached) return cached;
    const subject = this.#load(id) ?? this.#create(id);
    if (this.#cache.size >= VAULT_SUBJECTS_CACHED_MAX) this.#cache.delete(this.#cache.keys().next().value as string);
    this.#cache.set(name, subject);
    return subject;
  }

  /** The pseudonym of an id, or null when it has none. */
  find({ tenant, kind, id }: SubjectId): string | null {
    const sql = 'SELECT ref FROM subjects WHERE tenant = ? AND kind = ? AND id = ?';
    const row = this.#database.prepare(sql).get(tenant, kind, id) as { ref: string } | undefined;
    return row?.ref ?? null;
  }

  /** Whether anybody of this tenant was ever recorded, and the tenant was not erased since. */
  hasTenant(tenant: string): boolean {
    return this.#database.prepare('SELECT 1 FROM tenants WHERE tenant = ?').get(tenant) !== undefined;
  }

  /** Who a pseudonym is, or null: it is of another tenant, or was erased. */
  reveal(tenant: string, ref: string): SubjectId | null {
    const row = this.#byRef(tenant, ref);
    return row && { tenant: row.tenant, kind: row.kind, id: row.id };
  }

  /** Sealed facts of a pseudonym's records, or null: erased, or not made here. */
  unseal(tenant: string, ref: string, sealed: string): Record<string, AuditValue> | null {
    const row = this.#byRef(tenant, ref);
    const key = row && this.#subjectKey(row);
    const plain = key && decrypt(derive(key, 'seal'), Buffer.from(sealed, 'base64'), ref);
    return plain ? (JSON.parse(plain.toString('utf8')) as Record<string, AuditValue>) : null;
  }

  /** Content sealed for a pseudonym under `contentRef`, or null: erased, not made here, changed, or of another reference. */
  openContent(tenant: string, ref: string, sealed: Buffer, contentRef: string): Buffer | null {
    const row = this.#byRef(tenant, ref);
    const key = row && this.#subjectKey(row);
    return key && decrypt(derive(key, 'content'), sealed, `${ref} ${contentRef}`);
  }

  /** Destroys key and pseudonym. Answers the pseudonym that means nobody from now on, or null when there was none. */
  erase(id: SubjectId): string | null {
    const ref = this.find(id);
    if (ref === null) return null;
    this.#database.prepare('DELETE FROM subjects WHERE tenant = ? AND ref = ?').run(id.tenant, ref);
    this.#forgetPages();
    return ref;
  }

  /** Destroys the key of a tenant and all its subjects. */
  eraseTenant(tenant: string): void {
    this.#database.exec('BEGIN IMMEDIATE');
    this.#database.prepare('DELETE FROM subjects WHERE tenant = ?').run(tenant);
    this.#database.prepare('DELETE FROM tenants WHERE tenant = ?').run(tenant);
    this.#database.exec('COMMIT');
    this.#forgetPages();
  }

  close(): void {
    this.#database.close();
  }

  /** Old versions of the pages lie in the write-ahead log until it is written back and cut. */
  #forgetPages(): void {
    this.#cache.clear();
    this.#database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  }

  #refresh(): void {
    const { data_version: version } = this.#database.prepare('PRAGMA data_version').get() as { data_version: number };
    if (version === this.#version) return;
    this.#version = version;
    this.#cache.clear();
  }

  #byRef(tenant: string, ref: string): SubjectRow | null {
    const row = this.#database.prepare('SELECT * FROM subjects WHERE tenant = ? AND ref = ?').get(tenant, ref);
    return (row as SubjectRow | undefined) ?? null;
  }

  #load({ tenant, kind, id }: SubjectId): Subject | null {
    const ref = this.find({ tenant, kind, id });
    const row = ref === null ? null : this.#byRef(tenant, ref);
    return row && this.#subject(row, this.#subjectKey(row));
  }

  #create(id: SubjectId): Subject {
    const [ref, key] = [randomHex(16), randomBytes(KEY_BYTES)];
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const wrapped = encrypt(this.#tenantKey(id.tenant), key, `subject ${ref}`);
      const sql = 'INSERT INTO subjects VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING';
      this.#database.prepare(sql).run(id.tenant, id.kind, id.id, ref, wrapped);
      this.#database.exec('COMMIT');
    } catch (error) {
      this.#database.exec('ROLLBACK');
      throw error;
    }
    return this.#load(id) as Subject; // another process may have been first
  }

  #tenantKey(tenant: string): Buffer {
    const find = this.#database.prepare('SELECT wrapped FROM tenants WHERE tenant = ?');
    const row = find.get(tenant) as { wrapped: Uint8Array } | undefined;
    if (!row) {
      const key = randomBytes(KEY_BYTES);
      this.#database
        .prepare('INSERT INTO tenants VALUES (?, ?)')
        .run(tenant, encrypt(this.#key, key, `tenant ${tenant}`));
      return key;
    }
    return this.#opened(
      decrypt(this.#key, Buffer.from(row.wrapped), `tenant ${tenant}`),
      `the key of tenant "${tenant}"`,
    );
  }

  #subjectKey({ tenant, ref, wrapped }: SubjectRow): Buffer {
    return this.#opened(decrypt(this.#tenantKey(tenant), Buffer.from(wrapped), `subject ${ref}`), `the key of ${ref}`);
  }

  #opened(key: Buffer | null, what: string): Buffer {
    if (key) return key;
    throw new QuernError('DATA_LOSS', `audit vault: ${what} cannot be opened; the file was changed`, {
      reason: 'AUDIT_VAULT_DAMAGED',
    });
  }

  #subject({ tenant, kind, id, ref }: SubjectRow, key: Buffer): Subject {
    const [macKey, sealKey, contentKey] = [derive(key, 'mac'), derive(key, 'seal'), derive(key, 'content')];
    return {
      tenant,
      kind,
      id,
      ref,
      mac: (content) => createHmac('sha256', macKey).update(content).digest('hex'),
      seal: (facts) => encrypt(sealKey, canonicalBytes(facts), ref).toString('base64'),
      sealContent: (content, contentRef) => encrypt(contentKey, content, `${ref} ${contentRef}`),
    };
  }
}
