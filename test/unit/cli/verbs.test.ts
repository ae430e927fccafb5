/** Commands of several verbs: which one runs, and what is said of others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Io } from '../../../services/cli/command.ts';
import { runVerb, type Verb } from '../../../services/cli/verbs.ts';

test('a verb gets the words behind it; others are refused with a hint', async () => {
  const io = {} as Io;
  const calls: unknown[] = [];
  const verb: Verb = async (args, given) => {
    calls.push([args, given === io]);
    return 3;
  };
  const verbs = { query: verb, export: verb };
  assert.equal(await runVerb('audit', verbs, ['query', '--user', 'u'], io), 3);
  assert.deepEqual(calls, [[['--user', 'u'], true]]);
  const said = (...args: string[]): void => {
    runVerb('audit', verbs, args, io);
  };
  assert.throws(
    () => said(),
    /^QuernError: quern audit: expected one of query, export, got nothing; see quern audit --help$/,
  );
  assert.throws(() => said('exprot'), /got "exprot"; did you mean export\?; see quern audit --help/);
  assert.throws(() => said('toString'), /got "toString"; see/, 'what every object has is no verb');
});
