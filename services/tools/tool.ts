// What a tool is to the service: a definition, and how a checked call becomes something that runs.
import type { Taint } from '#kit/taint.ts';
import type { OutputSink, SandboxCommand, SandboxEnd, SandboxLimits } from './jail/sandbox.ts';

export type JsonObject = { readonly [key: string]: JsonValue };
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

export type Annotations = {
  readonly readOnly: boolean;
  readonly destructive: boolean;
  readonly idempotent: boolean;
  readonly openWorld: boolean;
};

export type Decision = 'allow' | 'ask' | 'deny';

export type ToolPolicy = {
  readonly decision: Decision;
  readonly limits: SandboxLimits;
  /** Bytes of output that the model gets. */
  readonly modelOutputBytes: number;
  readonly taint: Taint;
};

export type ToolKind = 'builtin' | 'command' | 'mcp';

export type ToolDefinition = {
  readonly name: string;
  readonly version: string;
  readonly kind: ToolKind;
  readonly description: string;
  readonly inputSchema: JsonObject;
  readonly outputSchema: JsonObject | null;
  readonly annotations: Annotations;
  readonly policy: ToolPolicy;
  /** Hex SHA-256 of the definition's canonical JSON. */
  readonly sha256: string;
};

/** A folder that the calls of one (tenant, session) share; workspaces.ts makes it. */
export type Workspace = {
  /** On the host; its name says nothing about tenant or user. */
  readonly path: string;
  /** Relative paths that are read-only inside. */
  readonly protected: readonly string[];
};

export type CallContext = {
  readonly tenant: string;
  readonly user: string;
  readonly sessionId: string;
  readonly workspace: Workspace;
  readonly stdin: Uint8Array | null;
  readonly limits: SandboxLimits;
};

/** First and last parts of what a command wrote, at most modelOutputBytes together. */
export type CapturedOutput = { readonly stdout: string; readonly stderr: string; readonly cut: boolean };

export type ArtifactFile = { readonly path: string; readonly mediaType: string };

/** A result that is bytes and no file: its name says nothing but what it is. */
export type ArtifactBytes = { readonly path: string; readonly mediaType: string; readonly data: Buffer };

export type ToolAnswer = {
  /** False: the tool itself says that it failed, as an MCP server's isError does. */
  readonly ok: boolean;
  /** One sentence for a person when it failed. */
  readonly message: string;
  /** For the model; the service strips and cuts it. */
  readonly content: string;
  readonly structured: JsonValue;
  readonly artifacts: readonly (ArtifactFile | ArtifactBytes)[];
};

/** A call whose arguments are valid, made ready to run. */
export type PreparedCall =
  | {
      readonly kind: 'sandbox';
      readonly command: Omit<SandboxCommand, 'limits'>;
      /** Turns what the command did into an answer; only for a command that exited by itself. */
      answer(end: SandboxEnd, output: CapturedOutput): ToolAnswer;
    }
  | {
      /** W: an expression in an interpreter without a way out; host: the egress guard's process; mcp: a server's tool. */
      readonly kind: 'function';
      readonly tier: 'W' | 'host' | 'mcp';
      run(options: { signal: AbortSignal; output: OutputSink }): Promise<ToolAnswer>;
    };

export type Tool = {
  readonly definition: ToolDefinition;
  /** Why it cannot run on this machine now, with what to do; null: it can. */
  unavailable(): string | null;
  /** True: it is unavailable because an operator has not set what it needs. */
  readonly isUnset?: boolean;
  /** Throws INVALID_ARGUMENT for what the schema cannot say (a path that leaves the workspace). */
  prepare(args: JsonObject, call: CallContext): Promise<PreparedCall>;
  /** What would run, for the digest that an approval binds. */
  readonly fingerprint: string;
};
