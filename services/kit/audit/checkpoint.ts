// Signed tree heads: C2SP tlog-checkpoint (origin, size, root) in a C2SP signed note with Ed25519 signatures.
// https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { QuernError } from '#kit/errors.ts';
import { HASH_BYTES } from './merkle.ts';

export type Checkpoint = { origin: string; size: number; root: Buffer };

const ED25519 = 0x01;
const KEY_ID_BYTES = 4;
const SIGNATURE_BYTES = 64;
const PUBLIC_KEY_BYTES = 32;
/** DER of an Ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410 §4). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

export type NoteVerifier = { name: string; keyId: Buffer; publicKey: KeyObject };
export type NoteSigner = NoteVerifier & { privateKey: KeyObject };

function invalid(message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'CHECKPOINT_INVALID' });
}

function rawKey(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI_PREFIX.length);
}

function keyIdOf(name: string, publicKey: KeyObject): Buffer {
  const typed = Buffer.concat([Buffer.of(ED25519), rawKey(publicKey)]);
  return createHash('sha256').update(`${name}\n`).update(typed).digest().subarray(0, KEY_ID_BYTES);
}

function checkName(name: string): void {
  if (name === '' || /[\s+]/u.test(name))
    throw invalid(`key name: expected text without blanks and "+", got "${name}"`);
}

/** A signer of this name. `pem`: PKCS #8. Throws INVALID_ARGUMENT when it is not an Ed25519 key. */
export function signerOf(name: string, pem: string): NoteSigner {
  checkName(name);
  const privateKey = createPrivateKey(pem);
  if (privateKey.asymmetricKeyType !== 'ed25519') throw invalid(`key of ${name}: expected Ed25519`);
  const publicKey = createPublicKey(privateKey);
  return { name, keyId: keyIdOf(name, publicKey), publicKey, privateKey };
}

/** A new private key, PKCS #8 PEM. */
export function newSigningKey(): string {
  return generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** The public key as one line, name+id+key: what verifiers are given (signed-note, "verifier key"). */
export function verifierKey({ name, keyId, publicKey }: NoteVerifier): string {
  const typed = Buffer.concat([Buffer.of(ED25519), rawKey(publicKey)]);
  return `${name}+${keyId.toString('hex')}+${typed.toString('base64')}`;
}

/** Reads a verifier key. Throws INVALID_ARGUMENT. */
export function parseVerifierKey(text: string): NoteVerifier {
  const [name = '', id = '', ...rest] = text.trim().split('+');
  checkName(name);
  const typed = Buffer.from(rest.join('+'), 'base64');
  if (typed.length !== 1 + PUBLIC_KEY_BYTES || typed[0] !== ED25519) {
    throw invalid(`key of ${name}: expected Ed25519 in the form NAME+ID+KEY, as "quern audit head" prints it`);
  }
  const der = Buffer.concat([SPKI_PREFIX, typed.subarray(1)]);
  const publicKey = createPublicKey({ key: der, format: 'der', type: 'spki' });
  const keyId = keyIdOf(name, publicKey);
  if (keyId.toString('hex') !== id) throw invalid(`key of ${name}: its id is ${keyId.toString('hex')}, not ${id}`);
  return { name, keyId, publicKey };
}

function bodyOf({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root.toString('base64')}\n`;
}

/** The signed note of a checkpoint. */
export function signCheckpoint(checkpoint: Checkpoint, signer: NoteSigner): string {
  const body = bodyOf(checkpoint);
  const signature = sign(null, Buffer.from(body), signer.privateKey);
  const line = Buffer.concat([signer.keyId, signature]).toString('base64');
  return `${body}\n\u2014 ${signer.name} ${line}\n`;
}

function parseBody(body: string): Checkpoint {
  const [origin = '', size = '', root = ''] = body.split('\n');
  const bytes = Buffer.from(root, 'base64');
  if (
    origin === '' ||
    !/^(0|[1-9]\d{0,15})$/.test(size) ||
    bytes.length !== HASH_BYTES ||
    bytes.toString('base64') !== root
  ) {
    throw invalid('checkpoint: expected three lines: origin, size, root in base64');
  }
  return { origin, size: Number(size), root: bytes };
}

type NoteSignature = { name: string; keyId: Buffer; signature: Buffer };
type Note = { body: string; signatures: NoteSignature[] };

/** A note's text and signatures, whatever it says. Throws INVALID_ARGUMENT when it is malformed. */
function parseNote(note: string): Note {
  const cut = note.lastIndexOf('\n\n');
  if (cut < 0) throw invalid('checkpoint: expected a signed note: text, an empty line, signatures');
  if (!note.endsWith('\n'))
    throw invalid('checkpoint: expected a signed note, got one without the end of its last line');
  const body = note.slice(0, cut + 1);
  const signatures = note
    .slice(cut + 2, -1)
    .split('\n')
    .map((line): NoteSignature => {
      const match = /^\u2014 (\S+) (\S+)$/u.exec(line);
      const bytes = Buffer.from(match?.[2] ?? '', 'base64');
      if (!match || bytes.length <= KEY_ID_BYTES) throw invalid('checkpoint: a signature line is malformed');
      return { name: match[1] ?? '', keyId: bytes.subarray(0, KEY_ID_BYTES), signature: bytes.subarray(KEY_ID_BYTES) };
    });
  return { body, signatures };
}

/** Why a text is no signed checkpoint, whoever signed it; null: it is one. */
export function checkpointProblem(note: string): string | null {
  try {
    parseBody(parseNote(note).body);
    return null;
  } catch (error) {
    if (error instanceof QuernError) return error.message;
    throw error;
  }
}

/**
 * Reads a signed checkpoint. Throws INVALID_ARGUMENT when it is malformed, of another origin, or no key of `verifiers`
 * has signed it; unknown signatures are ignored, a wrong one of a known key is refused.
 */
export function openCheckpoint(note: string, origin: string, verifiers: readonly NoteVerifier[]): Checkpoint {
  const { body, signatures } = parseNote(note);
  let known = 0;
  for (const { name, keyId, signature } of signatures) {
    const verifier = verifiers.find((one) => one.name === name && one.keyId.equals(keyId));
    if (!verifier) continue;
    if (signature.length !== SIGNATURE_BYTES || !verify(null, Buffer.from(body), verifier.publicKey, signature)) {
      throw invalid(`checkpoint: the signature of ${verifier.name} is wrong`);
    }
    known += 1;
  }
  if (known === 0) throw invalid('checkpoint: no known key has signed it');
  const checkpoint = parseBody(body);
  if (checkpoint.origin !== origin) throw invalid(`checkpoint: expected origin ${origin}, got ${checkpoint.origin}`);
  return checkpoint;
}
