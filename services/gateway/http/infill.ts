// POST /infill as llama.cpp's server has it: what llama.vim and llama.vscode speak.
import { collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { callerOf, type Handler, sendJson } from './exchange.ts';
import { type EndedChoice, endedChoice, infillAnswer } from './infill-answer.ts';
import { type InfillBody, infillRequest, infillSchema } from './infill-request.ts';
import { EventStream } from './sse.ts';
import { type StreamShape, streamAnswer } from './stream-answer.ts';
import { readFields } from './unknown-fields.ts';

/** Several completions are an array of answers, one is the answer. */
export function infill(context: GatewayContext): Handler {
  return async (exchange) => {
    const body = readFields(infillSchema, exchange);
    const request = infillRequest(body, exchange, context);
    const headers = { 'x-request-id': request.requestId };
    if (body.stream) {
      const events = new EventStream(exchange.response, headers);
      await streamAnswer(context, [request], exchange, events, createShape(context, body));
      return;
    }
    const { choices, end } = await collect(context, request, callerOf(exchange));
    const answers = choices.map((choice) => infillAnswer(context, body, endedChoice(choice), end));
    sendJson(exchange.response, answers.length === 1 ? answers[0] : answers, headers);
  };
}

function createShape(context: GatewayContext, body: InfillBody): StreamShape {
  const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;
  const finished: EndedChoice[] = [];
  const broken = new Set<number>();
  return {
    withUsage: true,
    withoutDone: true,
    promptTokenIds() {},
    promptLogprobs() {},
    delta(index, content, _logprobs, tokens) {
      if (content.includes('\n')) broken.add(index);
      return event({ index, content, tokens, stop: false, id_slot: -1 });
    },
    finished(index, reason, stop, _ends, scopeEnded) {
      const stopString = typeof stop === 'string' ? stop : '';
      const hasNewLine = broken.has(index);
      finished.push({ index, reason, stopString, scopeEnded, text: '', hasNewLine, tokenIds: [] });
      return '';
    },
    end(ends) {
      const [end] = ends;
      return end ? finished.map((choice) => event(infillAnswer(context, body, choice, end))).join('') : '';
    },
  };
}
