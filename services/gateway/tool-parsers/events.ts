// What a parser says about a model's output. The concatenation of all deltas does not depend on how the output was cut.

/** In the order of the output. `index`: 0 for the first call that was started. */
export type ToolEvent =
  /** `at`: where it begins in the parser's input, UTF-16 units; it is that input, unchanged. */
  | { kind: 'text'; text: string; at: number }
  | { kind: 'reasoning'; text: string }
  | { kind: 'call_start'; index: number; id: string; name: string }
  /** A further piece of the arguments' JSON text. */
  | { kind: 'arguments'; index: number; text: string }
  /** `arguments`: all pieces together, valid JSON text of an object. */
  | { kind: 'call_end'; index: number; arguments: string }
  /** Content: what began as a call and is none. `index`: of the call when it had been started, else null. */
  | { kind: 'invalid_call'; index: number | null; text: string; reason: string };

/** One choice's output, in pieces. Never throws. Takes time linear in its input and holds at most one call of it. */
export type OutputParser = {
  push(text: string): ToolEvent[];
  /** The output has ended. Nothing may be pushed after it. */
  finish(): ToolEvent[];
  /** UTF-16 units of input whose place (text, reasoning, call) is decided. */
  readonly consumed: number;
  /** The next token belongs to the reasoning. */
  readonly isReasoning: boolean;
};

/** Not a call after all: what was read of it is text like any other. */
export class NotACall extends Error {}

/** It began like a call and cannot be one. */
export class CallFailure extends Error {}
