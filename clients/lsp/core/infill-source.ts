/** The seam to the mesh: what the core asks and hears, without a transport. gRPC or HTTP stand behind it. */

export type Priority = 'invoked' | 'automatic' | 'speculative';

/** What a chunk is: declarations of what the file imports, the head of an open file, or where the user was. */
export type ChunkKind = 'declaration' | 'open_file' | 'recent';

export type ContextChunk = { path: string; text: string; kind?: ChunkKind };

/** Where the mesh ends a text by itself: at the line's end, with the block around the cursor, or as that place asks for. */
export type InfillEnding = 'single_line' | 'multi_line' | 'auto';

export type InfillQuery = {
  /** Unique; what the mesh's traces and audit log call this request. */
  requestId: string;
  /** Of the request's trace, 32 hex digits. A mesh that does not know the caller begins one of its own and says so. */
  traceId: string;
  /** Served name; "" = the only one. */
  model: string;
  /** Text before and behind the cursor, line ends as "\n". */
  prefix: string;
  suffix: string;
  /** Relative to the workspace. */
  path: string;
  /** As the editor names it. */
  languageId: string;
  repository: string;
  /** Oldest first. */
  chunks: readonly ContextChunk[];
  singleLine: boolean;
  ending: InfillEnding;
  /** Choices wanted, 1..16. */
  candidates: number;
  maxTokens: number;
  temperature: number;
  priority: Priority;
  /** A newer request with the same key ends this one at the mesh. */
  supersedeKey: string;
  /** The mesh ends with what it has after so many milliseconds. */
  softDeadlineMs: number;
};

export type InfillEvent =
  | { kind: 'accepted'; traceId: string }
  | { kind: 'delta'; index: number; text: string }
  /** `cut`: it ended by a bound (tokens, time), not because the model was done. */
  /** `scopeEnded`: the mesh ended it where the code around the cursor does. */
  | { kind: 'finished'; index: number; cut: boolean; scopeEnded: boolean }
  | { kind: 'end'; superseded: boolean };

export type FailureKind = 'offline' | 'overloaded' | 'unauthenticated' | 'no_fim' | 'timeout' | 'cancelled' | 'failed';

/** Why a query has no answer. `message` says what to do and holds none of the text. */
export class InfillFailure extends Error {
  readonly kind: FailureKind;
  /** After how long the mesh says that it may be tried again; null: it does not say. */
  readonly retryAfterMs: number | null;

  constructor(kind: FailureKind, message: string, options: ErrorOptions & { retryAfterMs?: number | null } = {}) {
    super(message, options);
    this.name = 'InfillFailure';
    this.kind = kind;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

/** Somebody asked by hand, who does not wait out a pause between two tries; or a mesh kept still for as long as one waits. */
export type ReconnectReason = 'asked' | 'silent';

export type InfillSource = {
  /** Throws InfillFailure. An aborted signal, or leaving the loop early, cancels the request at the mesh. */
  infill(query: InfillQuery, options: { signal: AbortSignal }): AsyncIterable<InfillEvent>;
  /** Connects anew for what is asked next, unless the connection works for all that is known. What runs goes on. */
  reconnect?(why: ReconnectReason): void;
};
