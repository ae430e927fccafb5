// node deploy/make-secrets.mjs [FOLDER]
// Makes what deploy/compose.yaml reads as secrets, once: tokens, NATS passwords, and API keys for Prometheus and for you. What is
// there already stays. The files are readable by their owner and by group 10001, as which the containers run.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const CONTAINER_GID = 10_001;
const root = resolve(import.meta.dirname, '..');
const folder = resolve(process.argv[2] ?? join(root, 'deploy/secrets'));
const say = (text) => process.stdout.write(`${text}\n`);

/** Makes a file unless it is there; returns its text. */
function once(name, make) {
  const path = join(folder, name);
  if (existsSync(path)) return readFileSync(path, 'utf8');
  writeFileSync(path, make(), { mode: 0o640, flag: 'wx' });
  say(`made ${name}`);
  return readFileSync(path, 'utf8');
}

/** The key that `quern keys create` prints. */
function createKey(user, role) {
  const file = join(folder, 'keys.json');
  const args = ['keys', 'create', '--file', file, '--tenant', 'ops', '--user', user, '--role', role];
  const output = execFileSync(process.execPath, [join(root, 'services/cli/bin.mjs'), ...args], {
    encoding: 'utf8',
    stdio: 'pipe',
  });
  const key = /qk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}/.exec(output)?.[0];
  if (!key) throw new Error(`quern keys create printed no key:\n${output}`);
  return `${key}\n`;
}

mkdirSync(folder, { recursive: true, mode: 0o750 });
const secret = () => randomBytes(32).toString('base64url');
once('internal-token', () => `${secret()}\n`);
once('audit-operator-token', () => `${secret()}\n`);
once('salt-secret', () => `${secret()}\n`);
once('grafana-password', () => `${secret()}\n`);
const passwords = once('nats-users.conf', () =>
  ['GATEWAY', 'TOOLS', 'AUDIT', 'OPERATOR'].map((user) => `QUERN_${user}_PASSWORD: "${secret()}"\n`).join(''),
);
for (const user of ['gateway', 'tools', 'audit']) {
  const password = new RegExp(`^QUERN_${user.toUpperCase()}_PASSWORD: "(.+)"$`, 'm').exec(passwords)?.[1];
  if (!password)
    throw new Error(`nats-users.conf has no password of ${user} in clear text; write nats-url-${user} yourself`);
  once(`nats-url-${user}`, () => `nats://${user}:${password}@nats:4222\n`);
}
once('prometheus-key', () => createKey('prometheus', 'service'));
once('admin-key', () => createKey('admin', 'admin'));
const files = [
  'internal-token',
  'audit-operator-token',
  'salt-secret',
  'grafana-password',
  'nats-users.conf',
  'nats-url-gateway',
  'nats-url-tools',
  'nats-url-audit',
];
try {
  for (const name of [...files, 'prometheus-key', 'keys.json']) {
    chmodSync(join(folder, name), 0o640);
    chownSync(join(folder, name), process.getuid(), CONTAINER_GID);
  }
} catch (error) {
  say(
    `${error.message}: as root, run chgrp ${CONTAINER_GID} on the files of ${folder}, which the containers must read`,
  );
}
say(`secrets are in ${folder}; your own key is in admin-key`);
