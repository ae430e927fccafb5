// What pure-eval.ts and its threads say to each other.
export type EvalRequest = {
  readonly code: string;
  /** JSON; the code sees it as `input`. */
  readonly input: string;
  readonly wallMs: number;
  /** A shared flag: not 0 = stop. */
  readonly stop: Int32Array;
};

export type EvalReply =
  | { readonly ok: true; readonly json: string; readonly keep: boolean }
  | { readonly ok: false; readonly message: string; readonly keep: boolean };
