/** The nats-server of a one-machine mesh: where it is found, and the configuration that lets only this mesh write to it. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { checkServerVersion } from '#kit/audit/nats-version.ts';
import { findPrograms, type ProgramPlaces } from './built-programs.ts';

export type NatsServer = { path: string; version: string };
export type FoundNats = { ok: true; server: NatsServer } | { ok: false; problem: string };

/** What makes one where there is none. */
export const GET_NATS = 'node scripts/get-nats.mjs';
const PROGRAM_TIMEOUT_MS = 5_000;
const INFO_TIMEOUT_MS = 1_000;

const execute = promisify(execFile);

async function versionOf(path: string): Promise<string> {
  const { stdout } = await execute(path, ['--version'], { timeout: PROGRAM_TIMEOUT_MS });
  return /\d+(\.\d+)+/.exec(stdout)?.[0] ?? '0';
}

/** The first nats-server that is new enough, or why there is none. */
export async function findNatsServer(places: ProgramPlaces): Promise<FoundNats> {
  let problem = 'no nats-server on PATH or in the cache folders';
  for (const path of findPrograms(places, 'nats-server', 'nats-server-')) {
    try {
      const version = await versionOf(path);
      checkServerVersion(version);
      return { ok: true, server: { path, version } };
    } catch (error) {
      problem = `${path}: ${(error as Error).message.split('\n')[0]}`;
    }
  }
  return { ok: false, problem };
}

/** Passwords of the processes that speak to it; hex, so that they need no escaping anywhere. */
export type NatsPasswords = { gateway: string; audit: string; tools: string };

/** From the file, which is made (0600) when it is not there. */
export function natsPasswords(file: string): NatsPasswords {
  try {
    const { gateway, audit, tools } = JSON.parse(readFileSync(file, 'utf8')) as Partial<NatsPasswords>;
    if (gateway && audit && tools) return { gateway, audit, tools };
  } catch {
    // not there yet, or not readable: new ones, which the next server knows
  }
  const password = (): string => randomBytes(24).toString('hex');
  const made = { gateway: password(), audit: password(), tools: password() };
  writePrivate(file, `${JSON.stringify(made)}\n`);
  return made;
}

function writePrivate(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/**
 * What each may say, and nothing else: its own frames, and what it asks of the stream. Nobody may change, empty or delete the
 * stream. deploy/nats/nats.conf grants the same to a mesh of several machines, but for the gateway's making of the stream.
 */
const ALLOWED = {
  gateway: [
    'audit.v1.gateway.*',
    '$JS.API.INFO',
    '$JS.API.STREAM.INFO.AUDIT',
    '$JS.API.STREAM.CREATE.AUDIT',
    '$JS.API.DIRECT.GET.AUDIT.audit.v1.gateway.*',
  ],
  tools: ['audit.v1.tools.*', '$JS.API.INFO', '$JS.API.STREAM.INFO.AUDIT', '$JS.API.DIRECT.GET.AUDIT.audit.v1.tools.*'],
  audit: [
    'audit.v1.audit.*',
    '$JS.API.INFO',
    '$JS.API.STREAM.INFO.AUDIT',
    '$JS.API.STREAM.CREATE.AUDIT',
    '$JS.API.DIRECT.GET.AUDIT',
    '$JS.API.DIRECT.GET.AUDIT.>',
    '$JS.API.CONSUMER.INFO.AUDIT.ledger',
    '$JS.API.CONSUMER.CREATE.AUDIT.ledger',
    '$JS.API.CONSUMER.DURABLE.CREATE.AUDIT.ledger',
    '$JS.API.CONSUMER.MSG.NEXT.AUDIT.ledger',
    '$JS.ACK.AUDIT.ledger.>',
  ],
} as const;

/** Each hears the answers to its own questions only: they come to inboxes that bear the client's name. */
function userLine(user: keyof typeof ALLOWED, password: string): string {
  const allowed = ALLOWED[user].map((subject) => JSON.stringify(subject)).join(', ');
  const inbox = JSON.stringify(`_INBOX.quern-${user}.>`);
  return `{ user: ${user}, password: "${password}", permissions: { publish: { allow: [${allowed}] }, subscribe: { allow: [${inbox}] } } }`;
}

/** nats-server's configuration. Loopback only; three users; the store's own bound is the stream's. */
export function natsConfiguration(options: { port: number; storeDir: string; passwords: NatsPasswords }): string {
  const { port, storeDir, passwords } = options;
  return `# Written by quern up at every start.
server_name: quern
listen: "127.0.0.1:${port}"
jetstream {
  store_dir: ${JSON.stringify(storeDir)}
  max_memory_store: 16MB
  max_file_store: 1TB
}
authorization {
  users: [
    ${userLine('gateway', passwords.gateway)}
    ${userLine('audit', passwords.audit)}
    ${userLine('tools', passwords.tools)}
  ]
}
`;
}

/** Writes what the server needs into `dir` (0700); answers its configuration file. */
export function prepareNats(dir: string, port: number): { configFile: string; passwords: NatsPasswords } {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const passwords = natsPasswords(join(dir, 'passwords.json'));
  const configFile = join(dir, 'nats-server.conf');
  writePrivate(configFile, natsConfiguration({ port, storeDir: join(dir, 'store'), passwords }));
  return { configFile, passwords };
}

/** Does a NATS server say hello there? */
export function natsAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const end = (answer: boolean) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(INFO_TIMEOUT_MS, end(false));
    socket.once('error', end(false));
    socket.once('close', end(false));
    socket.once('data', (bytes) => end(bytes.toString('latin1').startsWith('INFO '))());
  });
}

/**
 * The words before a program's own that make it end when this process dies, even by SIGKILL; none where util-linux's
 * setpriv is not there.
 */
export async function endsWithUs(): Promise<string[]> {
  const words = ['setpriv', '--pdeathsig', 'TERM', '--'];
  const works = await execute(words[0]!, [...words.slice(1), 'true'], { timeout: PROGRAM_TIMEOUT_MS }).then(
    () => true,
    () => false,
  );
  return works ? words : [];
}
