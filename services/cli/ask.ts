/** A question at the terminal. */
import { createInterface } from 'node:readline/promises';
import type { Io } from './command.ts';

/**
 * True for y or yes; null when the signal ended the wait. Ctrl-D is a no. While it asks the terminal is raw, so that Ctrl-C is a
 * character: here it is the signal again that it is elsewhere.
 */
export async function askYesNo(question: string, io: Io, signal: AbortSignal): Promise<boolean | null> {
  const terminal = createInterface({ input: io.stdin, output: io.stderr });
  const closed = new Promise<string | null>((resolve) => {
    terminal.once('close', () => resolve(''));
    terminal.once('SIGINT', () => {
      resolve(null); // what was typed behind it answers nothing
      process.kill(process.pid, 'SIGINT');
    });
  });
  const ended = AbortSignal.any([io.signal, signal]);
  const said = await Promise.race([terminal.question(`${question} [y/N] `, { signal: ended }), closed]).catch(
    () => null,
  );
  terminal.close();
  return said === null ? null : /^y(es)?$/i.test(said.trim());
}
