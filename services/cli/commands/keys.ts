/** `quern keys create|list|revoke`: the API keys file that the gateway reads. */
import { join, resolve } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { createKey, listKeys, type NewKey, revokeKey } from '#kit/keys-file.ts';
import type { Command, Io } from '../command.ts';
import { choice, parseOptions } from '../options.ts';
import { formatTable } from '../table.ts';

const ROLES = ['user', 'admin', 'service'] as const;
const CLASSES = ['INVOKED', 'AUTOMATIC', 'CHAT', 'BATCH', 'SPECULATIVE', 'WARM'] as const;
const PARSE_SPECIAL = ['none', 'fim', 'all'] as const;

export const keys: Command = {
  help: `usage: quern keys create --tenant T --user U [--role user|admin|service] [--priority-ceiling CLASS] [--parse-special none|fim|all]
       quern keys list [--json]
       quern keys revoke ID

The keys file holds hashes only; create prints the key once. A running gateway started with the same file follows changes
within a second.

  --file FILE              (default: QUERN_KEYS_FILE, else keys.json in the state folder)
  --priority-ceiling CLASS strongest class the key may ask for: ${CLASSES.join(', ').toLowerCase()} (default invoked)
  --parse-special KIND     which control tokens raw prompts may hold (default all)`,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, {
      file: { type: 'string' },
      tenant: { type: 'string' },
      user: { type: 'string' },
      role: { type: 'string' },
      'priority-ceiling': { type: 'string' },
      'parse-special': { type: 'string' },
      json: { type: 'boolean' },
    });
    const file = resolve(values.file ?? io.config.keysFile ?? join(io.config.stateDir, 'keys.json'));
    const [verb, id, ...rest] = positionals;
    if (verb === 'create' && id === undefined) return create(file, newKey(values), io);
    if (verb === 'list' && id === undefined) return list(file, values.json ?? false, io);
    if (verb === 'revoke' && id !== undefined && rest.length === 0) {
      const key = await revokeKey(file, id);
      io.stdout.write(`revoked ${key.id} of ${key.tenant}/${key.user}; a running gateway refuses it within a second\n`);
      return 0;
    }
    const got = positionals.length === 0 ? 'nothing' : `"${positionals.join(' ')}"`;
    throw new QuernError(
      'INVALID_ARGUMENT',
      `expected "create", "list" or "revoke ID", got ${got}; see quern keys --help`,
    );
  },
};

type CreateValues = {
  tenant?: string | undefined;
  user?: string | undefined;
  role?: string | undefined;
  'priority-ceiling'?: string | undefined;
  'parse-special'?: string | undefined;
};

function newKey(values: CreateValues): NewKey {
  const { tenant, user } = values;
  if (tenant === undefined || user === undefined) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      'expected --tenant T and --user U: whose key it is; quern keys --help has the rest',
    );
  }
  const role = choice('role', values.role, ROLES);
  const priorityCeiling = choice('priority-ceiling', values['priority-ceiling']?.toUpperCase(), CLASSES);
  const parseSpecial = choice('parse-special', values['parse-special'], PARSE_SPECIAL);
  return {
    tenant,
    user,
    ...(role === undefined ? {} : { role }),
    ...(priorityCeiling === undefined ? {} : { priorityCeiling }),
    ...(parseSpecial === undefined ? {} : { parseSpecial }),
  };
}

async function create(file: string, request: NewKey, io: Io): Promise<number> {
  const { token, key } = await createKey(file, request);
  io.stdout.write(`${token}\n`);
  io.stderr.write(
    `This is the key ${key.id} of ${key.tenant}/${key.user}; it is shown only now. Its hash is in ${file}.\n` +
      'A mesh that was started with this file knows the key within a second; to start one:\n' +
      `  QUERN_KEYS_FILE=${quoted(file)} npm start\n` +
      `Callers send it as "authorization: Bearer ${token.slice(0, 6)}...", the command line reads QUERN_API_KEY.\n`,
  );
  return 0;
}

/** As a shell wants it. */
function quoted(file: string): string {
  return /^[\w@%+=:,./-]+$/.test(file) ? file : `'${file.replaceAll("'", "'\\''")}'`;
}

async function list(file: string, json: boolean, io: Io): Promise<number> {
  const all = (await listKeys(file)).map(({ hash: _, ...key }) => key);
  if (json) io.stdout.write(`${JSON.stringify(all, null, 2)}\n`);
  else if (all.length === 0) {
    io.stdout.write(`${file} holds no keys; make one with quern keys create --tenant T --user U\n`);
  } else {
    const rows = all.map((key) => [
      key.id,
      key.tenant,
      key.user,
      key.role,
      key.priority_ceiling.toLowerCase(),
      key.parse_special,
      key.created,
      key.revoked ?? '',
    ]);
    io.stdout.write(
      formatTable(['id', 'tenant', 'user', 'role', 'ceiling', 'parse special', 'created', 'revoked'], rows),
    );
  }
  return 0;
}
