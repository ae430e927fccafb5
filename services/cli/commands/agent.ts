/** `quern agent`: a task for a model that may use tools, with its plan, its calls and what they write. */
import { createInterface } from 'node:readline/promises';
import { AgentMode, RunOutcome, type RunRequest } from '#gen/quern/gateway/v1/agent.ts';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { eventLine } from '../agent/event-line.ts';
import { type Question, RunPrinter } from '../agent/run-printer.ts';
import type { Command, Io } from '../command.ts';
import { connect, GATEWAY_OPTIONS, type GatewayClient } from '../gateway-client.ts';
import { parseOptions, wholeNumber } from '../options.ts';
import { SAMPLING_OPTIONS, samplingFrom, samplingHelp } from '../sampling-options.ts';

const DEFAULTS = { maxTokens: null };

const LIMIT_OPTIONS = {
  turns: { type: 'string' },
  calls: { type: 'string' },
  depth: { type: 'string' },
  time: { type: 'string' },
} as const;

export const agent: Command = {
  help: `usage: quern agent [options] TASK

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
  --json             every event as a line of JSON; approvals are then answered elsewhere
  --quiet            only what the model says
${samplingHelp(DEFAULTS)}`,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, {
      ...GATEWAY_OPTIONS,
      ...SAMPLING_OPTIONS,
      ...LIMIT_OPTIONS,
      plan: { type: 'boolean' },
      tool: { type: 'string', multiple: true },
      session: { type: 'string' },
      system: { type: 'string' },
      json: { type: 'boolean' },
      quiet: { type: 'boolean' },
    });
    const task = positionals.join(' ');
    if (task.trim() === '') throw new QuernError('INVALID_ARGUMENT', 'expected a task: quern agent "TASK"');
    if (values.stop !== undefined) {
      throw new QuernError('INVALID_ARGUMENT', '--stop: expected none, since a run has no stop strings');
    }
    const number = (name: keyof typeof LIMIT_OPTIONS, min: number, max: number): number | undefined =>
      values[name] === undefined ? undefined : wholeNumber(name, values[name], 0, min, max);
    const seconds = number('time', 1, 3600);
    const system = values.system === undefined ? [] : [message(Role.ROLE_SYSTEM, values.system)];
    const request: RunRequest = {
      model: values.model ?? '',
      messages: [...system, message(Role.ROLE_USER, task)],
      tools: values.tool ?? [],
      sampling: samplingFrom(values, DEFAULTS),
      options: { requestId: uuidv7(), priorityClass: 0, supersedeKey: '' },
      mode: values.plan ? AgentMode.AGENT_MODE_PLAN : AgentMode.AGENT_MODE_LOOP,
      limits: {
        turns: number('turns', 1, 64),
        calls: number('calls', 1, 512),
        depth: number('depth', 0, 5),
        wallMs: seconds === undefined ? undefined : seconds * 1000,
      },
      sessionId: values.session ?? '',
      nestedContext: '',
    };
    const gateway = connect(values, io);
    try {
      if (values.json) return await printEvents(request, gateway, io);
      return await follow(request, gateway, io, values.quiet ?? false);
    } finally {
      gateway.close();
    }
  },
};

function message(role: Role, content: string): ChatMessage {
  return { role, content, reasoningContent: '', name: '', toolCalls: [], toolCallId: '' };
}

const exitCode = (outcome: RunOutcome | undefined): number => (outcome === RunOutcome.RUN_OUTCOME_ANSWERED ? 0 : 1);

async function printEvents(request: RunRequest, gateway: GatewayClient, io: Io): Promise<number> {
  let outcome: RunOutcome | undefined;
  for await (const event of gateway.runAgent(request, { signal: io.signal })) {
    io.stdout.write(`${eventLine(event)}\n`);
    if (event.path === '' && event.event?.$case === 'ended') outcome = event.event.value.outcome;
  }
  return exitCode(outcome);
}

async function follow(request: RunRequest, gateway: GatewayClient, io: Io, quiet: boolean): Promise<number> {
  const printer = new RunPrinter({ out: io.stdout, log: quiet ? null : io.stderr });
  const runId = request.options?.requestId ?? '';
  let asked: Promise<void> = Promise.resolve(); // one question at a time
  let failure: unknown;
  for await (const event of gateway.runAgent(request, { signal: io.signal })) {
    const question = printer.take(event);
    if (question === null) continue;
    asked = asked
      .then(() => answer(question, { runId, gateway, io }))
      .catch((error: unknown) => {
        failure ??= error;
      });
  }
  await asked;
  if (failure instanceof QuernError && failure.code !== 'CANCELLED' && printer.outcome === undefined) throw failure;
  return exitCode(printer.outcome);
}

/** Asks on the terminal, with what would run in full view. No terminal: there is nobody to allow it, which is no person's no. */
async function answer(
  question: Question,
  { runId, gateway, io }: { runId: string; gateway: GatewayClient; io: Io },
): Promise<void> {
  io.stderr.write(question.text);
  const isTerminal = io.stdin.isTTY === true;
  let allow = false;
  if (isTerminal) {
    const terminal = createInterface({ input: io.stdin, output: io.stderr });
    const timeLeft = AbortSignal.timeout(Math.max(1, question.expiresUnixMs - Date.now()));
    const signal = AbortSignal.any([io.signal, timeLeft, question.ended]);
    const said = await terminal.question('Run it? [y/N] ', { signal }).catch(() => null);
    terminal.close();
    if (said === null) {
      io.stderr.write('\n[not answered in time]\n');
      return;
    }
    allow = /^y(es)?$/i.test(said.trim());
  } else io.stderr.write('[not run: it needs approval, and there is no terminal to ask on]\n');
  const { approvalId, digest } = question;
  const unattended = !isTerminal;
  await gateway.approve({ runId, approvalId, digest, allow, reason: '', unattended }, { signal: io.signal });
}
