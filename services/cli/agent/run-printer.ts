/** Shows a run as it goes: what the model says on one stream, the plan, the calls and their output on another. */
import { TextDecoder } from 'node:util';
import {
  type CallApproval,
  type CallEnded,
  type RunEnded,
  RunOutcome,
  type RunResponse,
  type RunStarted,
  StepState,
} from '#gen/quern/gateway/v1/agent.ts';
import { shortText } from '#kit/text-cut.ts';
import { counted } from '../counted.ts';
import { type Output, plainSight, textFor } from '../terminal-text.ts';

/** A call that waits for somebody's answer. */
export type Question = {
  approvalId: string;
  digest: Buffer;
  expiresUnixMs: number;
  /** The call with its exact arguments, for a terminal. */
  text: string;
  /** Aborts when the call has ended: nobody needs to answer any more. */
  ended: AbortSignal;
};

const STATES: Partial<Record<StepState, string>> = {
  [StepState.STEP_STATE_RETRYING]: 'failed, again',
  [StepState.STEP_STATE_FAILED]: 'failed',
  [StepState.STEP_STATE_SKIPPED]: 'left out',
};

const ENDINGS: Partial<Record<RunOutcome, string>> = {
  [RunOutcome.RUN_OUTCOME_ANSWERED]: 'answered',
  [RunOutcome.RUN_OUTCOME_LIMIT]: 'ended at its limit',
  [RunOutcome.RUN_OUTCOME_CANCELLED]: 'cancelled',
  [RunOutcome.RUN_OUTCOME_DEADLINE]: 'out of time',
  [RunOutcome.RUN_OUTCOME_PLAN_INVALID]: 'the model made no valid plan',
  [RunOutcome.RUN_OUTCOME_ERROR]: 'failed',
};

const SHOWN_CHARS = 200;

/** One line, and not all of a long text. */
function short(text: string): string {
  return shortText(text.replace(/\s+/g, ' '), SHOWN_CHARS);
}

const seconds = (ns: bigint): string => `${(Number(ns) / 1e9).toFixed(1)} s`;

export class RunPrinter {
  /** How the run itself ended; undefined: it has not. */
  outcome: RunOutcome | undefined;
  readonly #out: Output;
  readonly #log: Output | null;
  readonly #ends = new Map<string, AbortController>();
  readonly #decoders = new Map<string, TextDecoder>();
  #isMidLine = false;
  #isMidLog = false;
  #runId = '';

  /** `log` null: only what the model says is shown. */
  constructor({ out, log }: { out: Output; log: Output | null }) {
    this.#out = out;
    this.#log = log;
  }

  /** Shows an event. Answers the question that it asks, or null. */
  take({ path, event }: RunResponse): Question | null {
    switch (event?.$case) {
      case 'started':
        if (path === '') this.#started(event.value);
        break;
      case 'delta':
        this.#says(path, event.value.content);
        break;
      case 'plan':
        for (const { id, tool, argumentsJson, after } of event.value.steps) {
          const waits = after.length > 0 ? ` after ${after.join(', ')}` : '';
          this.#line(path, `plan ${id}: ${tool} ${short(this.#arguments(argumentsJson))}${waits}`);
        }
        break;
      case 'step': {
        const state = STATES[event.value.state];
        if (state !== undefined) this.#line(path, `step ${event.value.id}: ${state}`);
        break;
      }
      case 'call':
        this.#line(
          path,
          `call ${event.value.callId}: ${short(event.value.tool)} ${short(this.#arguments(event.value.argumentsJson))}`,
        );
        break;
      case 'callOutput':
        this.#output(event.value.callId, event.value.isStderr, event.value.data);
        break;
      case 'approval':
        return this.#question(event.value);
      case 'callEnded':
        this.#callEnded(path, event.value);
        break;
      case 'ended':
        this.#ended(path, event.value);
        break;
    }
    return null;
  }

  #started({ runId, model, tools }: RunStarted): void {
    this.#runId = runId;
    const what = `run ${runId} on ${model} with ${counted(tools.length, 'tool')}`;
    const text = `${what}; after a broken connection: quern agent --attach ${runId}`;
    this.#line('', text, true);
  }

  /** Of the run itself to the one stream, of nested runs to the other. */
  #says(path: string, content: string): void {
    if (content === '') return;
    if (path !== '') {
      this.#line(path, short(content));
      return;
    }
    this.#endLog();
    this.#out.write(textFor(this.#out, content));
    this.#isMidLine = !content.endsWith('\n');
  }

  /** Where there is a terminal, in plain sight: a call's arguments are what people decide by. */
  #arguments(json: string): string {
    return this.#log?.isTTY === true ? plainSight(json) : json;
  }

  /** `isMinor`: a terminal shows it dimmed. */
  #line(path: string, text: string, isMinor = false): void {
    if (this.#log === null) return;
    this.#endLine();
    this.#endLog();
    const line = textFor(this.#log, `${path === '' ? '' : `[${path}] `}${text}`);
    this.#log.write(isMinor && this.#log.isTTY ? `\u001b[2m${line}\u001b[22m\n` : `${line}\n`);
  }

  /** The streams meet on one terminal. */
  #endLine(): void {
    if (this.#isMidLine) this.#out.write('\n');
    this.#isMidLine = false;
  }

  #endLog(): void {
    if (this.#isMidLog) this.#log?.write('\n');
    this.#isMidLog = false;
  }

  #output(callId: string, isStderr: boolean, data: Uint8Array): void {
    if (this.#log === null) return;
    const key = `${callId} ${isStderr}`;
    const decoder = this.#decoders.get(key) ?? new TextDecoder();
    this.#decoders.set(key, decoder);
    const text = textFor(this.#log, decoder.decode(data, { stream: true }));
    if (text === '') return;
    this.#endLine();
    this.#log.write(text);
    this.#isMidLog = !text.endsWith('\n');
  }

  #question({ callId, approvalId, digest, reason, expiresUnixMs, tool, argumentsJson }: CallApproval): Question {
    const ended = new AbortController();
    this.#ends.set(callId, ended);
    this.#endLine();
    this.#endLog();
    const lines = [
      `call ${callId} needs approval: ${plainSight(reason)}`,
      `  tool: ${plainSight(tool)}`,
      `  arguments: ${shownArguments(argumentsJson)}`,
    ];
    const text = `${lines.join('\n')}\n`;
    return { approvalId, digest, expiresUnixMs: Number(expiresUnixMs), text, ended: ended.signal };
  }

  #callEnded(path: string, { callId, outcome, message, content, contentCut, runNs, replayed }: CallEnded): void {
    this.#ends.get(callId)?.abort();
    this.#ends.delete(callId);
    for (const stream of [true, false]) this.#decoders.delete(`${callId} ${stream}`);
    const notes = [seconds(runNs), ...(contentCut ? ['cut'] : []), ...(replayed ? ['kept result'] : [])].join(', ');
    this.#line(path, `ended ${callId}: ${outcome} (${notes})${message === '' ? '' : `: ${short(message)}`}`);
    if (outcome === 'OK' && content !== '') this.#line(path, `  ${short(content)}`);
  }

  #ended(path: string, { outcome, answer, limit, status, usage, turns, calls, wallNs }: RunEnded): void {
    if (path !== '') return;
    this.outcome = outcome;
    this.#endLine();
    const isSilent = outcome === RunOutcome.RUN_OUTCOME_ANSWERED && answer.trim() === '';
    const ending = `${ENDINGS[outcome] ?? 'ended'}${isSilent ? ' with no text' : ''}`;
    const how = `${ending}${limit === '' ? '' : ` of ${limit}`}${status ? `: ${status.message}` : ''}`;
    const tokens = (usage?.promptTokens ?? 0) + (usage?.completionTokens ?? 0);
    const figures = [counted(turns, 'turn'), counted(calls, 'call'), counted(tokens, 'token'), seconds(wallNs)].join(
      ', ',
    );
    const trace = this.#runId === '' ? '' : `; where the time went: quern trace ${this.#runId}`;
    this.#line(path, `${how}; ${figures}${trace}`);
  }
}

/** Every character of them: what is approved is what is seen. Over several lines where they are an object. */
function shownArguments(json: string): string {
  try {
    return plainSight(JSON.stringify(JSON.parse(json), null, 2)).replace(/\n/g, '\n  ');
  } catch {
    return plainSight(json);
  }
}
