// POST /v1/chat/completions with "tool_execution": "server": the calls of the model run here, the client sees one answer. Its
// text is what the model said in all turns, with an empty line between them; nested runs are not shown.
import { RunOutcome, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import type { GatewayContext } from '../context.ts';
import { invalidArgument, type TypedRequest } from '../typed-request.ts';
import { failureOfRun, readRun, runObject, runRequest, runUsage } from './agent-answer.ts';
import { type Exchange, sendJson } from './exchange.ts';
import { EventStream } from './sse.ts';

/** What an answer has at its head, and whether it streams. */
export type ServerToolsChat = {
  request: TypedRequest;
  base: { id: string; object: string; created: number; model: string };
  stream: boolean;
  withUsage: boolean;
  /** Of the workspace; '' = one of its own. */
  sessionId: string;
};

type Piece = { content?: string; reasoning_content?: string };

/** The run's own turns as one text, piece by piece. */
export class AnswerText {
  content = '';
  reasoning = '';
  #isNewTurn = false;

  /** Up to an empty line. */
  #missingLineEnds(): number {
    return this.content.endsWith('\n\n') ? 0 : this.content.endsWith('\n') ? 1 : 2;
  }

  take({ path, event }: RunResponse): Piece | null {
    if (path !== '') return null;
    if (event?.$case === 'turn') this.#isNewTurn = true;
    if (event?.$case !== 'delta') return null;
    const { reasoning } = event.value;
    let { content } = event.value;
    if (content !== '' && this.#isNewTurn) {
      if (this.content !== '') content = `${'\n'.repeat(this.#missingLineEnds())}${content}`;
      this.#isNewTurn = false;
    }
    this.content += content;
    this.reasoning += reasoning;
    return { ...(content !== '' && { content }), ...(reasoning !== '' && { reasoning_content: reasoning }) };
  }
}

function agentRequest({ request: { prompt, ...request }, sessionId }: ServerToolsChat) {
  if (prompt.kind !== 'chat') throw invalidArgument([{ field: 'messages', description: 'expected messages' }]);
  if (request.stop.length > 0) {
    const description = 'expected none with "tool_execution": "server": a stop string would end a turn, not the answer';
    throw invalidArgument([{ field: 'stop', description }]);
  }
  if (request.skipSpecialTokens === false) {
    const description = 'expected true with "tool_execution": "server"';
    throw invalidArgument([{ field: 'skip_special_tokens', description }]);
  }
  if (prompt.continueFinalMessage || !prompt.addGenerationPrompt) {
    const description = 'expected false with "tool_execution": "server"';
    throw invalidArgument([{ field: 'continue_final_message', description }]);
  }
  if (prompt.enableThinking !== undefined || prompt.templateVariables !== undefined) {
    const description = 'expected none with "tool_execution": "server"';
    throw invalidArgument([{ field: 'chat_template_kwargs', description }]);
  }
  const { requestId, priorityClass, priority, coalesceMs, returnTokenIds } = request;
  return runRequest({
    model: request.model,
    messages: [...prompt.messages],
    tools: prompt.tools.map(({ name }) => name),
    sampling: request.sampling,
    sessionId,
    options: { requestId, priorityClass, priority, supersedeKey: '', coalesceMs, returnTokenIds },
  });
}

const finishReason = (outcome: RunOutcome): string => (outcome === RunOutcome.RUN_OUTCOME_LIMIT ? 'length' : 'stop');

/** Throws FAILED_PRECONDITION without a tool service, INVALID_ARGUMENT for what a run has no place for. */
export async function serverToolsChat(
  context: GatewayContext,
  exchange: Exchange,
  chat: ServerToolsChat,
): Promise<void> {
  const headers = { 'x-request-id': chat.request.requestId };
  if (chat.stream) {
    await streamed(context, exchange, chat, new EventStream(exchange.response, headers));
    return;
  }
  const text = new AnswerText();
  const ended = await readRun(context, agentRequest(chat), exchange, (event) => void text.take(event));
  const failure = failureOfRun(ended);
  if (failure) throw failure;
  const message = {
    role: 'assistant',
    content: text.content,
    refusal: null,
    ...(text.reasoning !== '' && { reasoning_content: text.reasoning }),
  };
  const choice = { index: 0, message, logprobs: null, finish_reason: finishReason(ended.outcome), stop_reason: null };
  const run = runObject(chat.request.requestId, ended);
  sendJson(exchange.response, { ...chat.base, choices: [choice], usage: runUsage(ended), run }, headers);
}

async function streamed(
  context: GatewayContext,
  exchange: Exchange,
  chat: ServerToolsChat,
  events: EventStream,
): Promise<void> {
  const text = new AnswerText();
  const chunk = (delta: object, finish: string | null, more: object = {}): string => {
    const choices = [{ index: 0, delta, logprobs: null, finish_reason: finish }];
    return `data: ${JSON.stringify({ ...chat.base, choices, ...(chat.withUsage && { usage: null }), ...more })}\n\n`;
  };
  const write = (event: string): Promise<void> | void => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { response } = exchange;
    response.once('close', resolve);
    const settled = (): void => {
      response.off('close', resolve);
      resolve();
    };
    if (events.write(event, settled)) settled();
    return promise;
  };
  try {
    const ended = await readRun(context, agentRequest(chat), exchange, async (event) => {
      if (event.path === '' && event.event?.$case === 'started')
        await write(chunk({ role: 'assistant', content: '' }, null));
      const piece = text.take(event);
      if (piece && Object.keys(piece).length > 0) await write(chunk(piece, null));
    });
    const failure = failureOfRun(ended);
    if (failure) throw failure;
    const run = runObject(chat.request.requestId, ended);
    events.write(chunk({}, finishReason(ended.outcome), { run }));
    if (chat.withUsage) {
      events.write(`data: ${JSON.stringify({ ...chat.base, choices: [], usage: runUsage(ended) })}\n\n`);
    }
    events.done();
  } catch (thrown) {
    events.fail(thrown);
  }
}
