// Runs one planned request against a gateway, over the transport and in the way that the plan says, and tells what came.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import type {
  CallOptions,
  ChatRequest,
  ChatServiceClient,
  CompleteRequest,
  CompletionServiceClient,
  RequestServiceClient,
  StreamChatResponse,
  StreamCompleteResponse,
} from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import { finishReasonText } from '../../services/gateway/http/openai-objects.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';
import { user } from '../unit/tokenizer/support/requests.ts';
import { AnswerLog } from './answer-log.ts';
import type { BadCall } from './bad-calls.ts';
import type { GenerationPlan } from './chaos-plan.ts';
import { httpRefusal, readEvents, type SseChunk } from './sse-reader.ts';

export type ChaosTarget = {
  /** http://host:port */
  url: string;
  completion: InstanceType<typeof CompletionServiceClient>;
  chat: InstanceType<typeof ChatServiceClient>;
  requests: InstanceType<typeof RequestServiceClient>;
};

/** 'answered': there was a final event. 'dropped': the client itself went away before it. */
export type Outcome =
  | { kind: 'answered' }
  | { kind: 'dropped' }
  | { kind: 'refused'; code: string; field: string | null; message: string };

export type Observed = {
  outcome: Outcome;
  log: AnswerLog;
  /** What RequestService.Cancel said; null when it was not called, the error when it failed. */
  cancelFound: boolean | null | QuernError;
};

/** Long enough for a loaded machine: a request that hangs must show as a refusal, not as a hanging run. */
const PATIENCE_MS = 120_000;

type Run = { target: ChaosTarget; plan: GenerationPlan; log: AnswerLog; signal: AbortSignal; onEvent: () => void };

function samplingOf({ recipe, maxTokens }: GenerationPlan) {
  const { temperature, seed, ignoreEos, n } = recipe.sampling;
  return { ...emptySampling(), maxTokens, temperature, ignoreEos, n, seed: seed === undefined ? seed : BigInt(seed) };
}

function callOptions(requestId: string): CallOptions {
  const priorityClass = PriorityClass.PRIORITY_CLASS_UNSPECIFIED;
  return { requestId, priorityClass, priority: 0, supersedeKey: '', coalesceMs: undefined, returnTokenIds: true };
}

function completeRequest(plan: GenerationPlan): CompleteRequest {
  const { recipe, requestId } = plan;
  return {
    model: '',
    prompt: { $case: 'text', value: recipe.text },
    suffix: recipe.suffix,
    sampling: samplingOf(plan),
    stop: recipe.stop ?? [],
    options: callOptions(requestId),
    echo: false,
    parseSpecial: undefined,
  };
}

function chatRequest(plan: GenerationPlan): ChatRequest {
  return {
    model: '',
    messages: [user(plan.recipe.text)],
    tools: [],
    sampling: samplingOf(plan),
    stop: plan.recipe.stop ?? [],
    options: callOptions(plan.requestId),
    enableThinking: undefined,
    templateVariables: undefined,
  };
}

function timeoutOf({ behaviour }: GenerationPlan): number {
  return behaviour.kind === 'deadline' ? behaviour.timeoutMs : PATIENCE_MS;
}

async function wholeOverGrpc({ target, plan, log, signal }: Run): Promise<void> {
  const options = { signal, timeoutMs: timeoutOf(plan) };
  if (plan.recipe.kind === 'chat') {
    const { choices, end } = await unary(target.chat, 'chat', chatRequest(plan), options);
    for (const { index, content, tokenIds } of choices) log.delta(index, content, tokenIds);
    for (const { index, finishReason } of choices) log.finished(index, finishReasonText(finishReason));
    log.end(end?.usage?.completionTokens ?? 0);
    return;
  }
  const { choices, end } = await unary(target.completion, 'complete', completeRequest(plan), options);
  for (const { index, text, tokenIds } of choices) log.delta(index, text, tokenIds);
  for (const { index, finishReason } of choices) log.finished(index, finishReasonText(finishReason));
  log.end(end?.usage?.completionTokens ?? 0);
}

/** The client's own clock may end a call between its last message and its status: then it has its answer all the same. */
async function* untilOwnDeadline<T>(stream: AsyncIterable<T>, plan: GenerationPlan, log: AnswerLog): AsyncGenerator<T> {
  try {
    yield* stream;
  } catch (error) {
    const isLate = plan.behaviour.kind === 'deadline' && log.completionTokens !== null;
    if (!isLate || toQuernError(error).code !== 'DEADLINE_EXCEEDED') throw error;
  }
}

async function streamOverGrpc({ target, plan, log, signal, onEvent }: Run): Promise<void> {
  const options = { signal, timeoutMs: timeoutOf(plan) };
  const stream: AsyncIterable<StreamChatResponse | StreamCompleteResponse> =
    plan.recipe.kind === 'chat'
      ? serverStream(target.chat, 'streamChat', { request: chatRequest(plan) }, options)
      : serverStream(target.completion, 'streamComplete', { request: completeRequest(plan) }, options);
  let accepted = 0;
  for await (const { event } of untilOwnDeadline(stream, plan, log)) {
    onEvent();
    if (event?.$case === 'accepted') accepted += 1;
    else if (accepted !== 1) log.violations.push(`${event?.$case} after ${accepted} accepted`);
    if (event?.$case === 'delta') log.delta(event.value.index, event.value.text, event.value.tokenIds);
    if (event?.$case === 'choiceFinished') {
      log.finished(event.value.index, finishReasonText(event.value.finishReason));
    }
    if (event?.$case === 'end') log.end(event.value.usage?.completionTokens ?? 0);
  }
  if (log.completionTokens === null) log.violations.push('the stream ended well without an end');
}

function httpBody({ recipe, maxTokens, stream }: GenerationPlan): string {
  const { seed, temperature, ignoreEos, n } = recipe.sampling;
  const prompt =
    recipe.kind === 'chat'
      ? { messages: [{ role: 'user', content: recipe.text }] }
      : { prompt: recipe.text, suffix: recipe.suffix };
  return JSON.stringify({
    ...prompt,
    max_tokens: maxTokens,
    temperature,
    seed,
    n,
    ignore_eos: ignoreEos,
    stop: recipe.stop,
    return_token_ids: true,
    stream,
    ...(stream && { stream_options: { include_usage: true } }),
  });
}

async function overHttp({ target, plan, log, signal, onEvent }: Run): Promise<void> {
  const path = plan.recipe.kind === 'chat' ? '/v1/chat/completions' : '/v1/completions';
  const response = await fetch(`${target.url}${path}`, {
    method: 'POST',
    body: httpBody(plan),
    headers: {
      'content-type': 'application/json',
      'x-request-id': plan.requestId,
      'x-request-timeout-ms': String(timeoutOf(plan)),
    },
    signal,
  });
  if (response.status !== 200) throw await httpRefusal(response);
  if (plan.stream) return readEvents(response, log, onEvent);
  const answer = (await response.json()) as SseChunk;
  for (const { index, text, message, token_ids: ids } of answer.choices) {
    log.delta(index, text ?? message?.content ?? '', ids ?? []);
  }
  for (const { index, finish_reason: reason } of answer.choices) log.finished(index, String(reason));
  log.end(answer.usage?.completion_tokens ?? 0);
}

/** Calls `act` once, when the plan says so. `onEvent` counts the events of a stream. */
function armTrigger({ behaviour }: GenerationPlan, act: () => void): { onEvent: () => void; disarm: () => void } {
  if (behaviour.kind !== 'cancel' && behaviour.kind !== 'disconnect') return { onEvent: () => {}, disarm: () => {} };
  const { trigger } = behaviour;
  if ('afterMs' in trigger) {
    const timer = setTimeout(act, trigger.afterMs);
    return { onEvent: () => {}, disarm: () => clearTimeout(timer) };
  }
  let events = 0;
  const onEvent = (): void => {
    events += 1;
    if (events === trigger.afterEvents) act();
  };
  return { onEvent, disarm: () => {} };
}

export async function runGeneration(target: ChaosTarget, plan: GenerationPlan): Promise<Observed> {
  const log = new AnswerLog(plan.recipe.sampling.n ?? 1);
  const gone = new AbortController();
  let cancelling: Promise<boolean | QuernError> | null = null;
  const { onEvent, disarm } = armTrigger(plan, () => {
    if (plan.behaviour.kind === 'disconnect') gone.abort();
    else {
      const call = unary(target.requests, 'cancel', { requestId: plan.requestId }, { timeoutMs: PATIENCE_MS });
      cancelling = call.then(({ cancelled }) => cancelled, toQuernError);
    }
  });
  const run: Run = { target, plan, log, signal: gone.signal, onEvent };
  let outcome: Outcome = { kind: 'answered' };
  try {
    if (plan.transport === 'http') await overHttp(run);
    else await (plan.stream ? streamOverGrpc(run) : wholeOverGrpc(run));
  } catch (thrown) {
    outcome = gone.signal.aborted ? { kind: 'dropped' } : refusalOf(thrown);
    if (outcome.kind === 'refused') log.failed();
  } finally {
    disarm();
  }
  return { outcome, log, cancelFound: await cancelling };
}

export function refusalOf(thrown: unknown): Outcome {
  const fetchCause = thrown instanceof TypeError && thrown.cause !== undefined ? `: ${String(thrown.cause)}` : '';
  if (!(thrown instanceof QuernError)) {
    return { kind: 'refused', code: 'TRANSPORT', field: null, message: `${String(thrown)}${fetchCause}` };
  }
  const { code, message, details } = toQuernError(thrown);
  return { kind: 'refused', code, field: details.fields?.[0]?.field ?? null, message };
}

/** Sends a call that must be refused. */
export async function runBadCall(target: ChaosTarget, call: BadCall): Promise<Outcome> {
  try {
    if ('http' in call) {
      const { path, body, headers = {} } = call.http;
      const response = await fetch(`${target.url}${path}`, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', ...headers },
      });
      if (response.status !== 200) throw await httpRefusal(response);
      await response.text();
    } else if (call.stream) {
      for await (const _ of serverStream(target.completion, 'streamComplete', { request: call.grpc }));
    } else await unary(target.completion, 'complete', call.grpc, { timeoutMs: PATIENCE_MS });
  } catch (thrown) {
    return refusalOf(thrown);
  }
  return { kind: 'answered' };
}

/** Writes bytes that are no whole request and goes away. Whatever comes back is right. */
export async function breakConnection(target: ChaosTarget, bytes: string, lingerMs: number): Promise<void> {
  const { hostname, port } = new URL(target.url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {}); // the other side may be first
  socket.resume();
  socket.write(bytes, 'latin1');
  await sleep(lingerMs);
  socket.destroy();
}
