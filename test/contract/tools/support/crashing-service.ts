/** The tool service in a process of its own, to be killed: argv is its folder and the file that counts what ran. */
import { appendFile } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import { createFakeJail } from './fake-jail.ts';
import { setUp } from './service.ts';

const [dir, ranFile] = process.argv.slice(2) as [string, string];
const jail = createFakeJail();
const { run } = jail;
jail.run = async (command, options) => {
  await appendFile(ranFile, `${command.argv.join(' ')}\n`);
  return run(command, options);
};
const { service } = await setUp({ after: () => {} } as unknown as TestContext, { dir, jail });
process.send!(service.address);
