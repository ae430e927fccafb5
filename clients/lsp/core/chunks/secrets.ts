/** Files that hold secrets by their nature: nothing of them is sent, not as the file at hand and not beside another. */

const NAMES = [
  /^\.env(\..+)?$/,
  /\.env$/,
  /\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk|asc|gpg|age)$/,
  /^id_(rsa|dsa|ecdsa|ed25519)/,
  /^\.(npmrc|pypirc|netrc|htpasswd|git-credentials|dockercfg|pgpass|my\.cnf|s3cfg|boto)$/,
  /^_netrc$/,
  /^(credentials|secrets?|passwords?)(\.(json|ya?ml|toml|ini|txt|xml|properties))?$/,
  /^(client_secret|service[-_]?account).*\.json$/,
  /\.tfvars(\.json)?$/,
  /\.tfstate(\.backup)?$/,
];

const FOLDERS = new Set(['.ssh', '.aws', '.gnupg', '.kube', '.docker', '.azure', '.gcloud']);

/** Shown to others on purpose. */
const EXAMPLES = /\.(example|sample|template|dist)$/;

export function isSecretPath(path: string): boolean {
  const parts = path.toLowerCase().split(/[\\/]/);
  const name = parts.at(-1) ?? '';
  if (parts.slice(0, -1).some((part) => FOLDERS.has(part))) return true;
  return !EXAMPLES.test(name) && NAMES.some((pattern) => pattern.test(name));
}

/** A private key in whatever file. */
export const hasSecretText = (text: string): boolean =>
  text.includes('PRIVATE KEY-----') && /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text);
