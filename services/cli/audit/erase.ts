/** `quern audit erase`: a person is forgotten, the log stays whole. */
import { createInterface } from 'node:readline/promises';
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { parseOptions } from '../options.ts';
import { AUDIT_OPTIONS, connectAudit } from './audit-client.ts';
import { noPositionals, required, TENANT_DEFAULT } from './words.ts';

async function confirmed(user: string, tenant: string, io: Io): Promise<boolean> {
  if (!io.stdin.isTTY) {
    throw new QuernError('INVALID_ARGUMENT', 'quern audit erase asks before it erases; without a terminal give --yes');
  }
  const terminal = createInterface({ input: io.stdin, output: io.stderr });
  try {
    const question =
      `Nobody will be able to tell which requests were made by "${user}" of tenant "${tenant}", and it cannot be undone.\n` +
      'Type the user once more to erase: ';
    return (await terminal.question(question, { signal: io.signal })) === user;
  } finally {
    terminal.close();
  }
}

export async function eraseUser(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseOptions(args, {
    ...AUDIT_OPTIONS,
    tenant: { type: 'string' },
    user: { type: 'string' },
    yes: { type: 'boolean' },
  });
  noPositionals('erase', positionals);
  const user = required('user', values.user, 'the id of a user');
  const tenant = values.tenant ?? TENANT_DEFAULT;
  const audit = connectAudit(values.address, io);
  try {
    if (!values.yes && !(await confirmed(user, tenant, io))) {
      io.stderr.write('nothing was erased\n');
      return 1;
    }
    const { userRef } = await audit.erase({ tenant, user });
    io.stdout.write(`erased: the records of ${userRef} speak of nobody from now on; every proof stays valid\n`);
    return 0;
  } finally {
    audit.close();
  }
}
