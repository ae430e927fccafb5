/** Reads a run to its end: as lines of JSON, or for a person, who is asked about calls that need approval. */

import { setTimeout as sleep } from 'node:timers/promises';
import { RunOutcome, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { QuernError } from '#kit/errors.ts';
import { askYesNo } from '../ask.ts';
import type { Io } from '../command.ts';
import type { GatewayClient } from '../gateway-client.ts';
import { textFor } from '../terminal-text.ts';
import { eventLine } from './event-line.ts';
import { type Question, RunPrinter } from './run-printer.ts';

export type Followed = {
  runId: string;
  events: AsyncIterable<RunResponse>;
  gateway: GatewayClient;
  io: Io;
  /** It was started elsewhere: what is told of it may be long over, and somebody else may answer for it. */
  isAttached: boolean;
};

/** What was asked before we came is told again; its answer follows at once where there is one. */
const REPLAY_MS = 300;

const exitCode = (outcome: RunOutcome | undefined): number => (outcome === RunOutcome.RUN_OUTCOME_ANSWERED ? 0 : 1);

/** Every event as a line. Answers the exit code. */
export async function printEvents({ events, io }: Followed): Promise<number> {
  let outcome: RunOutcome | undefined;
  for await (const event of events) {
    io.stdout.write(`${textFor(io.stdout, eventLine(event))}\n`);
    if (event.path === '' && event.event?.$case === 'ended') outcome = event.event.value.outcome;
  }
  return exitCode(outcome);
}

/** Shows it and asks. Answers the exit code. Throws what broke it off. */
export async function followRun(run: Followed, quiet: boolean): Promise<number> {
  const { io } = run;
  const printer = new RunPrinter({ out: io.stdout, log: quiet ? null : io.stderr });
  let asked: Promise<void> = Promise.resolve(); // one question at a time
  let failure: unknown;
  for await (const event of run.events) {
    const question = printer.take(event);
    if (question === null) continue;
    asked = asked
      .then(() => answer(question, run))
      .catch((error: unknown) => {
        failure ??= error;
      });
  }
  await asked;
  if (failure instanceof QuernError && failure.code !== 'CANCELLED' && printer.outcome === undefined) throw failure;
  return exitCode(printer.outcome);
}

/** Asks on the terminal, with what would run in full view. No terminal: there is nobody to allow it, which is no person's no. */
async function answer(question: Question, { runId, gateway, io, isAttached }: Followed): Promise<void> {
  if (isAttached) await sleep(REPLAY_MS, undefined, { signal: question.ended }).catch(() => {});
  if (question.ended.aborted) return;
  io.stderr.write(question.text);
  const isTerminal = io.stdin.isTTY === true;
  let allow = false;
  if (isTerminal) {
    const timeLeft = AbortSignal.timeout(Math.max(1, question.expiresUnixMs - Date.now()));
    const said = await askYesNo('Run it?', io, AbortSignal.any([timeLeft, question.ended]));
    if (io.signal.aborted) return;
    if (said === null) {
      if (question.ended.aborted) io.stderr.write('\n[answered elsewhere, or ended]\n');
      else if (timeLeft.aborted) io.stderr.write('\n[not answered in time]\n');
      return;
    }
    allow = said;
  } else if (isAttached) {
    io.stderr.write('[there is no terminal to ask on; it waits for an answer from elsewhere]\n');
    return;
  } else io.stderr.write('[not run: it needs approval, and there is no terminal to ask on]\n');
  const { approvalId, digest } = question;
  const unattended = !isTerminal;
  await gateway.approve({ runId, approvalId, digest, allow, reason: '', unattended }, { signal: io.signal });
}
