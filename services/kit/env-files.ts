// Environment variables that name files which are read at start: secrets, certificates and private keys. A file that
// cannot be used is a mistake in the environment like any other, so all are reported at once.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { type Field, field, type Parsed } from './env.ts';

/** A token that travels in headers. */
export const TOKEN = /^[\x21-\x7e]+$/;
export const TOKEN_EXPECTED = 'printable ASCII without spaces';

export type PemFile = { readonly path: string; readonly pem: string };

/** The file of a field, or null when its variable is not set. */
type FileField<T> = Field<T | null>;

function fileField<T>(name: string, doc: string, expected: string, read: (path: string, text: string) => T | string) {
  const parse = (given: string): Parsed<T> => {
    const path = resolve(given);
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      const { code = 'unknown error' } = error as NodeJS.ErrnoException;
      return { ok: false, expected, actual: `${path}, which cannot be read (${code})` };
    }
    const value = read(path, text);
    return typeof value === 'string' ? { ok: false, expected, actual: `${path}, ${value}` } : { ok: true, value };
  };
  return field<T, null>(name, { doc, default: null }, expected, () => '', parse) as FileField<T>;
}

/** A file that holds a secret; white space around it does not count. */
export function secretFile(
  name: string,
  options: { doc: string; isToken?: boolean },
): FileField<{ readonly secret: string }> {
  const expected = options.isToken ? `a readable file with a token of ${TOKEN_EXPECTED}` : 'a readable file';
  return fileField(name, options.doc, expected, (_path, text) => {
    const secret = text.trim();
    if (secret === '') return 'which is empty';
    return options.isToken && !TOKEN.test(secret) ? 'which holds other characters' : { secret };
  });
}

const certificatesIn = (pem: string): X509Certificate[] =>
  [...pem.matchAll(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g)].map(
    ([block]) => new X509Certificate(block),
  );

const isOver = (certificate: X509Certificate): boolean => certificate.validToDate.getTime() < Date.now();

function lookAtCertificates(path: string, pem: string, all: boolean): PemFile | string {
  let found: X509Certificate[];
  try {
    found = certificatesIn(pem);
  } catch {
    return 'which holds a damaged certificate';
  }
  const [first] = found;
  if (!first) return 'which holds none';
  if (all ? found.every(isOver) : isOver(first)) return `which expired on ${first.validToDate.toISOString()}`;
  return { path, pem };
}

/** A certificate, followed by its intermediate ones. */
export function certificateFile(name: string, options: { doc: string }): FileField<PemFile> {
  const expected = 'a readable file with a valid PEM certificate';
  return fileField(name, options.doc, expected, (path, pem) => lookAtCertificates(path, pem, false));
}

/** The certificates of one or several CAs; during a change of CA an expired one may stand among them. */
export function caFile(name: string, options: { doc: string }): FileField<PemFile> {
  const expected = 'a readable file with valid PEM certificates of CAs';
  return fileField(name, options.doc, expected, (path, pem) => lookAtCertificates(path, pem, true));
}

export function privateKeyFile(name: string, options: { doc: string }): FileField<PemFile> {
  const expected = 'a readable file with an unencrypted PEM private key';
  return fileField<PemFile>(name, options.doc, expected, (path, pem) => {
    try {
      createPrivateKey(pem);
      return { path, pem };
    } catch {
      return /BEGIN ENCRYPTED|,ENCRYPTED/.test(pem) ? 'whose key is encrypted' : 'which holds none';
    }
  });
}

/** Null: not set. Undefined: set, with a mistake that is reported already. */
type Given = Readonly<Record<string, PemFile | null | undefined>>;

/** Variables that only make sense together, by name: each one that lacks. */
export function incompleteProblems(group: Given): string[] {
  const names = Object.keys(group);
  const given = names.filter((name) => group[name] !== null);
  if (given.length === 0) return [];
  const others = given.join(' and ');
  return names
    .filter((name) => group[name] === null)
    .map((name) => `${name}: expected a file beside ${others}, but it is not set; set it, or remove ${others}`);
}

/** A certificate and a key that do not make a pair, or that TLS refuses. Reported under the key's name. */
export function pairProblems(
  keyName: string,
  { cert, key }: { cert: PemFile | null | undefined; key: PemFile | null | undefined },
): string[] {
  if (!cert || !key) return [];
  const say = (expected: string, actual: string): string[] => [
    `${keyName}: expected ${expected}, got ${actual}; set the files of one pair`,
  ];
  if (!certificatesIn(cert.pem)[0]!.checkPrivateKey(createPrivateKey(key.pem)))
    return say(`the private key of ${cert.path}`, `another one in ${key.path}`);
  try {
    createSecureContext({ cert: cert.pem, key: key.pem });
    return [];
  } catch (error) {
    return say(
      'a key and a certificate that TLS accepts',
      `${key.path} and ${cert.path} (${(error as Error).message})`,
    );
  }
}
