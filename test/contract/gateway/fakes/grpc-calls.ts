// Calls of the gRPC front door by tests.
import assert from 'node:assert/strict';
import type { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { ChatRequest, CompleteRequest, type StreamCompleteResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { serverStream } from '#kit/rpc/client.ts';
import type { TestMesh } from './mesh.ts';

export const EMPTY = new Uint8Array(0);

export function completeRequest(over: Partial<CompleteRequest> = {}): CompleteRequest {
  return { ...CompleteRequest.decode(EMPTY), prompt: { $case: 'text', value: 'x = ' }, ...over };
}

export function chatRequest(): ChatRequest {
  const plain = { reasoningContent: '', name: '', toolCalls: [], toolCallId: '' };
  return { ...ChatRequest.decode(EMPTY), messages: [{ role: Role.ROLE_USER, content: 'hello', ...plain }] };
}

export const options = (over: object = {}) => ({
  requestId: '',
  priorityClass: 0 as PriorityClass,
  supersedeKey: '',
  ...over,
});

export async function stream(
  mesh: TestMesh,
  request: CompleteRequest,
  more: { signal?: AbortSignal; timeoutMs?: number } = {},
) {
  const events: NonNullable<StreamCompleteResponse['event']>[] = [];
  for await (const { event } of serverStream(mesh.completion, 'streamComplete', { request }, more))
    if (event) events.push(event);
  return events;
}

export function textOf(events: readonly NonNullable<StreamCompleteResponse['event']>[], index = 0): string {
  return events.map((e) => (e.$case === 'delta' && e.value.index === index ? e.value.text : '')).join('');
}

export async function refusal(work: Promise<unknown>): Promise<QuernError> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof QuernError);
    return error;
  }
  throw new assert.AssertionError({ message: 'expected a refusal' });
}
