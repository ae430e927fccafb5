// A tool service without a sandbox behind the real ToolService: what each tool does is a function of the test.
import {
  type ApproveRequest,
  Decision,
  type DenyRequest,
  type ExecuteRequest,
  type ExecuteResponse,
  GetCapabilitiesResponse,
  Outcome,
  Result,
  Tool,
  ToolServiceService,
} from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { type CallContext, defineService, startRpcServer } from '#kit/rpc/server.ts';

const EMPTY = new Uint8Array(0);

export function fakeTool(name: string, over: Partial<Tool> = {}): Tool {
  return {
    ...Tool.decode(EMPTY),
    name,
    description: `does ${name}`,
    inputSchemaJson: '{"type":"object"}',
    decision: Decision.DECISION_ALLOW,
    annotations: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
    sha256: Buffer.alloc(32, 9),
    ...over,
  };
}

export const toolResult = (content: string, over: Partial<Result> = {}): Result => ({
  ...Result.decode(EMPTY),
  outcome: Outcome.OUTCOME_OK,
  content,
  ...over,
});

export type FakeEvent = NonNullable<ExecuteResponse['event']>;
export type FakePlay = (
  request: ExecuteRequest,
  call: CallContext,
  tools: FakeTools,
) => AsyncIterable<FakeEvent> | Promise<Result>;

export type FakeTools = {
  readonly address: string;
  readonly requests: ExecuteRequest[];
  /** Nested contexts as they came, one per call. */
  readonly contexts: string[];
  readonly traces: string[];
  readonly running: number;
  readonly approvals: ApproveRequest[];
  readonly denials: DenyRequest[];
  /** Ids of those that ended. */
  readonly endedSessions: string[];
  /** Waits for the answer to an approval. */
  answered(approvalId: string): Promise<boolean>;
  close(): Promise<void>;
};

function absent(): never {
  throw new QuernError('UNIMPLEMENTED', 'the fake tool service lists, executes and takes answers');
}

export async function startFakeTools(listen: string, tools: readonly Tool[], play: FakePlay): Promise<FakeTools> {
  const waiting = new Map<string, (isAllowed: boolean) => void>();
  const state = { requests: [] as ExecuteRequest[], contexts: [] as string[], traces: [] as string[], running: 0 };
  const [approvals, denials]: [ApproveRequest[], DenyRequest[]] = [[], []];
  const endedSessions: string[] = [];
  const service = defineService(ToolServiceService, {
    listTools: () => ({ tools: [...tools] }),
    async execute(request, call, out) {
      state.requests.push(request);
      state.contexts.push(call.metadata.get('x-quern-nested-context') ?? '');
      state.traces.push(call.trace.traceId);
      state.running += 1;
      try {
        const played = play(request, call, fake);
        if (!(Symbol.asyncIterator in played)) {
          out.write({ sequence: 1n, event: { $case: 'result', value: await played } });
          return;
        }
        let sequence = 0n;
        for await (const event of played) {
          sequence += 1n;
          out.write({ sequence, event });
        }
      } finally {
        state.running -= 1;
      }
    },
    approve(request) {
      approvals.push(request);
      waiting.get(request.approvalId)?.(true);
      return {};
    },
    deny(request) {
      denials.push(request);
      waiting.get(request.approvalId)?.(false);
      return {};
    },
    registerTool: absent,
    removeTool: absent,
    attach: () => {
      throw new QuernError('NOT_FOUND', 'no such call');
    },
    cancel: absent,
    getCapabilities: () => ({ ...GetCapabilitiesResponse.decode(EMPTY), tier: 'A' }),
    snapshot: absent,
    rollback: absent,
    endSession({ caller }) {
      endedSessions.push(caller?.sessionId ?? '');
      return { removed: endedSessions.length > 1 };
    },
  });
  const server = await startRpcServer({
    service: 'fake-tools',
    listen: [listen],
    services: [service],
    log: createLog({ service: 'fake-tools', level: 'silent' }),
    metrics: createMetrics('fake-tools'),
  });
  const fake: FakeTools = {
    address: server.addresses[0] as string,
    requests: state.requests,
    contexts: state.contexts,
    traces: state.traces,
    get running() {
      return state.running;
    },
    approvals,
    denials,
    endedSessions,
    answered: (approvalId) => new Promise((resolve) => waiting.set(approvalId, resolve)),
    close: () => server.close(),
  };
  return fake;
}

/** Never ends by itself; rejects with the call's end. */
export function untilAborted({ signal }: CallContext): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
