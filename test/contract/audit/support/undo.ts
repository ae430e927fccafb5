// Clean-up in the reverse order of set-up: node:test runs its own hooks in the order in which they were given.
import type { TestContext } from 'node:test';

type Action = () => Promise<unknown> | unknown;
type Scope = Pick<TestContext, 'after'>;

const stacks = new WeakMap<Scope, Action[]>();

/** Runs `action` after the test, before all that was given earlier; the first error is thrown when all have run. */
export function undo(t: Scope, action: Action): void {
  const known = stacks.get(t);
  if (known) {
    known.push(action);
    return;
  }
  const actions = [action];
  stacks.set(t, actions);
  t.after(async () => {
    const errors: unknown[] = [];
    for (const one of actions.reverse()) await (async () => one())().catch((error: unknown) => errors.push(error));
    if (errors.length > 0) throw errors[0];
  });
}
