// What a run needs from outside: somebody who takes a model's turn, and somebody who runs tools. Tests script both.
import type { SamplingParams, Usage } from '#gen/quern/common/v1/common.ts';
import type { ChatMessage, ToolDefinition } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type {
  ApproveRequest,
  DenyRequest,
  EndSessionRequest,
  ExecuteRequest,
  ExecuteResponse,
  ListToolsRequest,
  Tool,
} from '#gen/quern/tools/v1/tools.ts';
import type { TraceContext } from '#kit/trace.ts';

export type TurnRequest = {
  /** Names the turn in the run: "" or "1.0." and its number. */
  name: string;
  messages: readonly ChatMessage[];
  /** What the model is shown; empty: it may not call. */
  tools: readonly ToolDefinition[];
  /** Whose definitions stand in a message: a plan is made of them. */
  describedTools: readonly ToolDefinition[];
  sampling: SamplingParams | undefined;
  /** Tokens that the run has left, >= 1: the turn may not make more. */
  tokensMax: number;
  /** Milliseconds that the run has left, >= 1: for whoever plans with it. The signal ends the turn. */
  leftMs: number;
};

export type TurnEvent =
  | { kind: 'delta'; content: string; reasoning: string }
  /** Complete, in the model's order. `problem`: why it cannot be made; its arguments are then the text that the model wrote. */
  | { kind: 'call'; name: string; argumentsJson: string; problem: string | null }
  /** Once, last. `cut`: tokensMax ended it. */
  | { kind: 'end'; reason: 'stop' | 'length' | 'cancelled'; cut: boolean; usage: Usage };

export type SeamOptions = { signal: AbortSignal; trace: TraceContext };

/** Takes one turn of the model. Throws QuernError; ends at once when the signal aborts. */
export type Turn = (request: TurnRequest, options: SeamOptions) => AsyncIterable<TurnEvent>;

/** The tool service, for one gateway. Throws QuernError: it could not take the call. A tool's failure is a result. */
export type ToolService = {
  list(request: ListToolsRequest, options: SeamOptions): Promise<readonly Tool[]>;
  /** `nestedContext`: for a tool that starts runs itself. The stream's last event is a result. */
  execute(request: ExecuteRequest, options: SeamOptions & { nestedContext: string }): AsyncIterable<ExecuteResponse>;
  approve(request: ApproveRequest, options: SeamOptions): Promise<void>;
  deny(request: DenyRequest, options: SeamOptions): Promise<void>;
  /** Nobody will call in this session again. False: a call is still in its workspace, which stays for now. */
  endSession(request: EndSessionRequest, options: SeamOptions): Promise<boolean>;
};
