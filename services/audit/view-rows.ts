// Rows of the view as its readers get them.
import type { RequestKind } from './view-sql.ts';

/** One request, agent run or tool call as it is shown. Null: not told (yet). */
export type RequestRow = {
  /** Of its first record: callers may use a request id again. */
  id: string;
  kind: RequestKind;
  /** Of a tool call that no run made: "" or what its caller gave. */
  request_id: string;
  tenant: string;
  actor_kind: string;
  actor_ref: string;
  accepted_ts: string;
  finished_ts: string | null;
  /** Name of the model, or of the tool. */
  target: string | null;
  outcome: string | null;
  code: string | null;
  reason: string | null;
  trace_id: string | null;
  sealed: string | null;
  /** Integers by name, JSON. */
  usage: string | null;
  accepted_idx: number;
  finished_idx: number | null;
  /** Where the prompt is kept, and where the answer is. */
  prompt_ref: string | null;
  answer_ref: string | null;
  /** From here on: of tool calls only. */
  execution_id: string | null;
  tool_version: string | null;
  tool_sha: string | null;
  policy_sha: string | null;
  args_mac: string | null;
  approval: 'approved' | 'denied' | null;
  /** Pseudonym of who said so; of nobody who answered it is the caller's own. */
  approval_ref: string | null;
  approval_reason: string | null;
};

/** One record as it is shown. Null: not told. */
export type RecordRow = {
  idx: number;
  ts: string;
  producer: string;
  tenant: string;
  actor_kind: string;
  actor_ref: string;
  action: string;
  outcome: string;
  code: string | null;
  reason: string | null;
  target: string | null;
  request_id: string | null;
  trace_id: string | null;
  /** Integers by name, JSON. */
  usage: string | null;
};
