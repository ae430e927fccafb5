// A throw-away CA with a server's and a client's certificate, made by openssl.
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const KEY = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';

export type Certificates = {
  ca: Buffer;
  server: { cert: Buffer; key: Buffer };
  gateway: { cert: Buffer; key: Buffer };
};

/** Null when openssl is not installed. Both certificates are valid for the name "server". */
export async function makeCertificates(folder: string): Promise<Certificates | null> {
  const openssl = (line: string) => execFileSync('openssl', line.split(' '), { cwd: folder, stdio: 'pipe' });
  try {
    openssl('version');
  } catch {
    return null;
  }
  openssl(`req -x509 ${KEY} -days 2 -keyout ca.key -out ca.pem -subj /CN=ca`);
  for (const name of ['server', 'gateway']) {
    openssl(`req ${KEY} -keyout ${name}.key -out ${name}.csr -subj /CN=${name} -addext subjectAltName=DNS:server`);
    const sign = '-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy';
    openssl(`x509 -req -in ${name}.csr ${sign} -out ${name}.pem`);
  }
  const read = (file: string) => readFile(join(folder, file));
  const pair = async (name: string) => ({ cert: await read(`${name}.pem`), key: await read(`${name}.key`) });
  return { ca: await read('ca.pem'), server: await pair('server'), gateway: await pair('gateway') };
}
