// Checks for what must not happen. Bad input from the world is not a bug: throw QuernError for it.

/** Throws when `cond` is false. Only for broken preconditions of our own code. */
export function assert(cond: unknown, message: string): asserts cond {
  if (!cond) throw new Error(`assertion failed: ${message}`);
}

/** For the default branch of an exhaustive switch: the type checker proves it is never reached. */
export function unreachable(x: never): never {
  throw new Error(`assertion failed: unreachable value ${JSON.stringify(x)}`);
}
