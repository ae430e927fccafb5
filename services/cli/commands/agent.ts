/** `quern agent`: a task for a model that may use tools, with its plan, its calls and what they write. */
import { AgentMode, type RunRequest } from '#gen/quern/gateway/v1/agent.ts';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { type Followed, followRun, printEvents } from '../agent/follow-run.ts';
import type { Command, Io } from '../command.ts';
import { connect, GATEWAY_OPTIONS } from '../gateway-client.ts';
import { parseOptions, wholeNumber } from '../options.ts';
import { SAMPLING_OPTIONS, samplingFrom, samplingHelp } from '../sampling-options.ts';

const DEFAULTS = { maxTokens: null };

const LIMIT_OPTIONS = {
  turns: { type: 'string' },
  calls: { type: 'string' },
  depth: { type: 'string' },
  time: { type: 'string' },
} as const;

const OPTIONS = {
  ...GATEWAY_OPTIONS,
  ...SAMPLING_OPTIONS,
  ...LIMIT_OPTIONS,
  plan: { type: 'boolean' },
  tool: { type: 'string', multiple: true },
  session: { type: 'string' },
  system: { type: 'string' },
  json: { type: 'boolean' },
  quiet: { type: 'boolean' },
  attach: { type: 'string' },
  linger: { type: 'string' },
} as const;

/** How long a run goes on without its command, for --attach. */
const LINGER_SECONDS = 30;
const LINGER_SECONDS_MAX = 600;

export const agent: Command = {
  help: `usage: quern agent [options] TASK
       quern agent --attach RUN_ID [--json] [--quiet]

Gives TASK to a model that may use the tools of the mesh, and shows what it says, calls and gets. What the model says goes to
standard output, all else to standard error. A call that needs approval is shown with its exact arguments and asks on the
terminal; without a terminal it is not run (NO_APPROVER). Ctrl-C ends the run and every tool that runs in it.

  --plan             the model plans first; the plan is checked, run and summed up
  --tool NAME        a tool that it may use; may be given several times (default: all)
  --session ID       runs of one session share a workspace (default: one of its own)
  --system TEXT      system message
  --turns N          model turns at most (default: the server's)
  --calls N          tool calls at most
  --depth N          levels of nested runs at most, 0..5
  --time SECONDS     how long it may take
  --linger SECONDS   how long the run goes on when this command is lost, for --attach; Ctrl-C ends it at once (default ${LINGER_SECONDS})
  --attach RUN_ID    shows a run of yours from its beginning and goes on with it: after a broken connection, or beside the
                     command that started it. Ctrl-C then leaves it alone
  --json             every event as a line of JSON; approvals are then answered elsewhere
  --quiet            only what the model says
${samplingHelp(DEFAULTS)}`,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, OPTIONS);
    const task = positionals.join(' ');
    const how = { json: values.json ?? false, quiet: values.quiet ?? false };
    if (values.attach !== undefined) return attach(values.attach, task, { values, io, how });
    if (task.trim() === '') throw new QuernError('INVALID_ARGUMENT', 'expected a task: quern agent "TASK"');
    if (values.stop !== undefined) {
      throw new QuernError('INVALID_ARGUMENT', '--stop: expected none, since a run has no stop strings');
    }
    const number = (name: keyof typeof LIMIT_OPTIONS, min: number, max: number): number | undefined =>
      values[name] === undefined ? undefined : wholeNumber(name, values[name], 0, min, max);
    const seconds = number('time', 1, 3600);
    const linger = wholeNumber('linger', values.linger, LINGER_SECONDS, 0, LINGER_SECONDS_MAX);
    const runId = uuidv7();
    const system = values.system === undefined ? [] : [message(Role.ROLE_SYSTEM, values.system)];
    const request: RunRequest = {
      model: values.model ?? '',
      messages: [...system, message(Role.ROLE_USER, task)],
      tools: values.tool ?? [],
      sampling: samplingFrom(values, DEFAULTS),
      options: { requestId: runId, priorityClass: 0, supersedeKey: '' },
      mode: values.plan ? AgentMode.AGENT_MODE_PLAN : AgentMode.AGENT_MODE_LOOP,
      limits: {
        turns: number('turns', 1, 64),
        calls: number('calls', 1, 512),
        depth: number('depth', 0, 5),
        wallMs: seconds === undefined ? undefined : seconds * 1000,
      },
      sessionId: values.session ?? '',
      nestedContext: '',
      lingerMs: linger * 1000,
    };
    const gateway = connect(values, io);
    try {
      const events = gateway.runAgent(request, { signal: io.signal });
      return await show({ runId, events, gateway, io, isAttached: false }, how);
    } finally {
      gateway.close();
    }
  },
};

function message(role: Role, content: string): ChatMessage {
  return { role, content, reasoningContent: '', name: '', toolCalls: [], toolCallId: '' };
}

type Attaching = { values: Parameters<typeof connect>[0]; io: Io; how: How };

async function attach(runId: string, task: string, { values, io, how }: Attaching): Promise<number> {
  if (task !== '')
    throw new QuernError('INVALID_ARGUMENT', '--attach: expected no task beside it: the run has its own');
  const gateway = connect(values, io);
  try {
    const events = gateway.attachRun({ runId, afterSequence: 0n }, { signal: io.signal });
    return await show({ runId, events, gateway, io, isAttached: true }, how);
  } finally {
    gateway.close();
  }
}

type How = { json: boolean; quiet: boolean };

/** What a run is read from and who ends it: its own command does, one that only looks on does not. */
async function show(run: Followed, { json, quiet }: How): Promise<number> {
  const { runId, gateway, io, isAttached } = run;
  let last = 0n;
  async function* counted() {
    for await (const event of run.events) {
      last = event.sequence;
      yield event;
    }
  }
  try {
    const counting = { ...run, events: counted() };
    return json ? await printEvents(counting) : await followRun(counting, quiet);
  } catch (error) {
    if (!isAttached && io.signal.aborted) await gateway.cancelRequest(runId).catch(() => {});
    if (last > 0n && error instanceof QuernError && error.code === 'UNAVAILABLE') {
      const message = `${error.message}; if the mesh is there again soon, so is the run: quern agent --attach ${runId}`;
      throw new QuernError(error.code, message, error.details, { cause: error });
    }
    throw error;
  }
}
