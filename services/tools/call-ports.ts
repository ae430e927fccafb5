// What a call needs of the rest of the service: which tools there are, what the policy says, and where the files are. Tests give
// their own.
import type { Taint } from '#kit/taint.ts';
import type { CheckedArguments, CheckOptions } from './argument-check.ts';
import type { ArtifactFile, Decision, Tool, ToolPolicy, Workspace } from './tool.ts';

/** What the policy says of one call. */
export type Verdict = {
  decision: Decision;
  /** Why, for a person; "" for a plain allow. */
  reason: string;
  /** Bounds in force for this tenant. */
  policy: ToolPolicy;
  /** Hex SHA-256 of the policy in force. */
  sha: string;
};

export type ToolCatalog = {
  list(): readonly Tool[];
  /** Throws NOT_FOUND, reason TOOL_UNKNOWN. */
  get(name: string): Tool;
  check(tool: Tool, argumentsJson: string, options: CheckOptions): Promise<CheckedArguments>;
  /** What a tool with an output schema answered, as JSON. */
  checkResult(tool: Tool, json: string, options: CheckOptions): Promise<CheckedArguments>;
  /** `taint`: of the conversation so far. */
  verdict(tool: Tool, call: { tenant: string; taint: Taint }): Verdict;
};

export type ReadArtifact = { path: string; size: number; sha256: Buffer; mediaType: string; data: Buffer };

/** Beside what a call may run: `none` does not touch the workspace, `alone` has it for itself (what a person approved). */
export type WorkspaceHold = 'none' | 'shared' | 'alone';

/** The workspace of one call while it runs. */
export type OpenWorkspace = {
  readonly workspace: Workspace;
  /** Aborts when the workspace has outgrown its quota; the call then ends as disk_limit. */
  readonly full: AbortSignal;
  /**
   * The call is about to run: from now on the size of its workspace is looked at. Waits for those that it may not run beside, and
   * holds the workspace until leave(). Rejects with the signal's reason.
   */
  begin(options: { hold: WorkspaceHold; tool: string; signal: AbortSignal }): Promise<void>;
  /** Ends what idles in the workspace and may write to it: a call waits for the end of all that does. Absent: nothing idles there. */
  endIdle?(): Promise<void>;
  /** Null: not a plain file of the workspace, or too large. */
  artifact(file: ArtifactFile): Promise<ReadArtifact | null>;
  /** The call has ended. */
  leave(): Promise<void>;
};

/** A run that was given no session: its calls have its own id as their session, and nothing of it is needed after its end. */
export const isNameless = ({ sessionId, requestId }: { sessionId: string; requestId?: string }): boolean =>
  sessionId === requestId;

export type WorkspaceDoor = {
  /** `waits`: it runs nothing before begin(). */
  enter(
    caller: { tenant: string; sessionId: string; requestId?: string },
    options?: { waits: boolean },
  ): Promise<OpenWorkspace>;
};

/** Tools that come and go while the service runs: the registry. */
export type ToolPacks = {
  /** Writes its pack file. Throws INVALID_ARGUMENT, ALREADY_EXISTS. */
  register(definitionJson: string): Promise<Tool>;
  /** Throws NOT_FOUND, and FAILED_PRECONDITION for a tool that did not come with register(). */
  remove(name: string): Promise<void>;
};

/** Workspaces between calls: copies to go back to, and their end. */
export type WorkspaceCopies = {
  snapshot(caller: { tenant: string; sessionId: string }): Promise<{ id: string; bytes: number; files: number }>;
  /** Throws NOT_FOUND for a copy that is not this session's. */
  rollback(caller: { tenant: string; sessionId: string }, id: string): Promise<void>;
  /** Removes the workspace of a session and its copies; false: a call is in it. */
  discard(caller: { tenant: string; sessionId: string }): Promise<boolean>;
};
