import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CompleteRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { encodeRequest } from '../../../services/cli/rpc/json-message.ts';

const COMPLETION = 'quern.gateway.v1.CompletionService';
const CHAT = 'quern.gateway.v1.ChatService';

function refusal(service: string, method: string, json: object): string {
  try {
    encodeRequest(service, method, json);
  } catch (error) {
    return (error as Error).message;
  }
  return assert.fail(`expected a refusal of ${JSON.stringify(json)}`);
}

test('a message becomes the bytes that a generated client would send, with names of both kinds', () => {
  const json = { text: 'a', sampling: { maxTokens: 5, top_p: 0.5, seed: '77', logit_bias: { 7: 1.5 } }, stop: ['x'] };
  const decoded = CompleteRequest.decode(encodeRequest(COMPLETION, 'Complete', json));
  assert.deepEqual(decoded.prompt, { $case: 'text', value: 'a' });
  assert.equal(decoded.sampling?.maxTokens, 5);
  assert.equal(decoded.sampling?.topP, 0.5);
  assert.equal(decoded.sampling?.seed, 77n);
  assert.deepEqual([...(decoded.sampling?.logitBias ?? [])], [[7, 1.5]]);
  assert.deepEqual(decoded.stop, ['x']);
});

test('an unknown field is refused with the closest one and all there are', () => {
  assert.match(
    refusal(COMPLETION, 'Complete', { text: 'a', modle: 'm' }),
    /^CompletionService\/Complete has no field "modle"; did you mean "model"\? Fields: model, text \| token_ids, /,
  );
  assert.match(refusal(COMPLETION, 'Complete', { zzzzzzzz: 1 }), /has no field "zzzzzzzz"\. Fields: model, /);
  assert.match(refusal('quern.gateway.v1.ModelService', 'ListModels', { x: 1 }), /no field "x"\. It takes no fields$/);
});

test('a oneof stands for its fields, a field of a message below for its path', () => {
  assert.match(refusal(COMPLETION, 'Complete', { promt: 'a' }), /did you mean "text" or "token_ids"\?/);
  assert.match(refusal(COMPLETION, 'Complete', { prompt: 'a' }), /did you mean "text" or "token_ids"\?/);
  assert.match(refusal(COMPLETION, 'Complete', { max_tokens: 3 }), /did you mean "sampling\.max_tokens"\?/);
  assert.match(refusal(COMPLETION, 'StreamComplete', { text: 'a' }), /did you mean "request\.text"\?/);
});

test('messages inside messages, lists and maps are checked too, with their path', () => {
  assert.match(
    refusal(COMPLETION, 'Complete', { sampling: { max_token: 3 } }),
    /^CompletionService\/Complete: "sampling" has no field "max_token"; did you mean "max_tokens"\?/,
  );
  assert.match(
    refusal(CHAT, 'Chat', { messages: [{ role: 'ROLE_USER' }, { contents: 'x' }] }),
    /^ChatService\/Chat: "messages\[1\]" has no field "contents"; did you mean "content"\?/,
  );
});

test('a wrong type is refused, never read as zero', () => {
  assert.match(refusal(COMPLETION, 'Complete', { sampling: 3 }), /: sampling: expected an object, got 3$/);
  assert.match(refusal(COMPLETION, 'Complete', { stop: 'x' }), /: stop: expected an array, got "x"$/);
  assert.match(
    refusal(COMPLETION, 'Complete', { sampling: { max_tokens: 'x' } }),
    /: max_tokens: expected number.*got "x"/,
  );
  assert.match(refusal(COMPLETION, 'Complete', { token_ids: { ids: [-1] } }), /: ids: .*-1 out of range/);
  assert.match(refusal(COMPLETION, 'Complete', { text: 'a', token_ids: { ids: [1] } }), /prompt: .*text and token_ids/);
  assert.match(
    refusal(CHAT, 'Chat', { messages: [{ role: 'user' }] }),
    /role: expected one of .*; did you mean ROLE_USER\?$/,
  );
});

test('google.protobuf types have their own JSON form', () => {
  const bytes = encodeRequest(CHAT, 'Chat', { template_variables: { anything: { at: ['all'] } } });
  assert.ok(Buffer.from(bytes).includes('anything'));
});
