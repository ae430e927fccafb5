// The process that appends to one witness. The file may lie on a mount that hangs, and a call that hangs in the kernel keeps a
// thread: here it keeps this process only, which its parent kills when it goes.
import { appendDurably } from './append-durably.ts';

/** One at a time. */
type Order = { lines: string };
/** error null: the lines are on disk. */
type Answer = { error: { message: string; code: string } | null };

const [path = ''] = process.argv.slice(2);

function answer(error: Answer['error']): void {
  process.send?.({ error } satisfies Answer);
}

process.on('message', ({ lines }: Order) => {
  appendDurably(path, lines).then(
    () => answer(null),
    ({ message, code = 'UNKNOWN' }: NodeJS.ErrnoException) => answer({ message, code }),
  );
});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL')); // an exit would wait for a call that hangs
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {}); // the parent says when
