// What a model's own template writes of a turn with reasoning and calls is read back as that turn: through the real tokenizer,
// its ids, and the parser that the template names.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { ChatMessage } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { Choice } from '../../../services/gateway/choice.ts';
import { outputReading } from '../../../services/gateway/output-reading.ts';
import type { ChoicePart } from '../../../services/gateway/parsed-assembler.ts';
import type { ToolEvent } from '../../../services/gateway/tool-parsers/events.ts';
import { emptySampling, type TypedRequest } from '../../../services/gateway/typed-request.ts';
import { Vocabulary } from '../../../services/gateway/vocabulary.ts';
import { type LoadedModel, loadModel } from '../../../services/tokenizer/loaded-model.ts';
import { readModelFiles } from '../../../services/tokenizer/model-files.ts';
import { ADDED, bytesOfId, SPECIAL, UNUSED } from '../../../services/tokenizer/vocabulary.ts';
import { chatml, render } from '../tokenizer/support/chat-models.ts';
import { assistant, chatRequest, user } from '../tokenizer/support/requests.ts';
import { resultOf, TOOLS } from './tool-parsers/support/corpus.ts';

const mini = loadModel('mini', await readModelFiles(join(import.meta.dirname, '../../../models/quern-mini')));

function vocabularyOf({ tokenizer, outputFormat, eosTokenIds }: LoadedModel): Vocabulary {
  const { vocabulary } = tokenizer;
  const pieces = Array.from({ length: vocabulary.size }, (_, id) => {
    const flags = vocabulary.flags[id]!;
    const bytes = Buffer.from(bytesOfId(vocabulary, id));
    return { bytes, special: (flags & SPECIAL) !== 0, added: (flags & ADDED) !== 0, unused: (flags & UNUSED) !== 0 };
  });
  const { toolParser, reasoningParser } = outputFormat;
  const parsers = { toolParser: toolParser ?? '', reasoningParser: reasoningParser ?? '' };
  const header = { contentHash: 'x', size: vocabulary.size, eosTokenIds, chatTemplateHash: 'x', fimFamily: '' };
  return new Vocabulary({ ...header, ...parsers }, pieces);
}

const USER = user('Write it.');
const tools = TOOLS.map((tool) => ({ ...tool, description: '', strict: false }));

/** The ids that the model would have to write so that the next turn's prompt holds this one. */
function turnIds(model: LoadedModel, turn: ChatMessage, enableThinking: boolean | undefined) {
  const prompt = [...render(model, chatRequest([USER], { tools, enableThinking })).ids];
  const whole = [...render(model, chatRequest([USER, turn], { tools, addGenerationPrompt: false })).ids];
  assert.deepEqual(whole.slice(0, prompt.length), prompt);
  return { prompt, output: whole.slice(prompt.length) };
}

function readBack(model: LoadedModel, { prompt, output }: { prompt: number[]; output: number[] }, step: number) {
  const vocabulary = vocabularyOf(model);
  const chat: TypedRequest['prompt'] = {
    kind: 'chat',
    messages: [USER],
    tools,
    enableThinking: undefined,
    templateVariables: undefined,
    addGenerationPrompt: true,
    continueFinalMessage: false,
  };
  const reading = outputReading({ prompt: chat, sampling: emptySampling() } as TypedRequest, prompt, vocabulary);
  assert(reading);
  const stopTokenIds = new Set(model.eosTokenIds);
  const options = { vocabulary, stopStrings: [], stopTokenIds, minTokens: 0, logprobs: false, tokenIds: false };
  const choice = new Choice({ ...options, textOffset: 0 }, null, model.eosTokenIds, reading);
  const parts: ChoicePart[] = [];
  const take = (): void => {
    parts.push(...choice.takeParts());
    const { text } = choice.take();
    if (text !== '') parts.push({ kind: 'text', text });
  };
  const end = output.findIndex((id) => stopTokenIds.has(id));
  const written = end < 0 ? output : output.slice(0, end + 1);
  for (let at = 0; at < written.length; at += step) {
    choice.push(written.slice(at, at + step), []);
    take();
  }
  choice.finish(FinishReason.FINISH_REASON_STOP);
  take();
  return resultOf(parts as ToolEvent[]).parts;
}

const ARGUMENTS = [
  { path: 'a b.ts', content: 'x = "<tool_call>" + \'</tool_call>\';\r\n\t// </think> <|im_end|> é😀\\n\n' },
  { options: { retries: 3, ratio: 0.5, note: null, layers: [{ size: 64, tags: ['a'], deep: { flag: false } }] } },
  {},
];
const toolCalls = ['write_file', 'configure', 'now'].map((name, i) => ({
  id: `call_${i}`,
  name,
  argumentsJson: JSON.stringify(ARGUMENTS[i]),
}));
const expectedCalls = toolCalls.map(({ name, argumentsJson }) => ({ call: { name, arguments: argumentsJson } }));

for (const [name, model] of [
  ['quern-mini', mini],
  ['ChatML with reasoning', chatml],
] as const) {
  test(`${name}: calls that its template writes`, () => {
    assert.equal(model.outputFormat.toolParser, 'hermes');
    const turn = turnIds(model, assistant('', { toolCalls }), undefined);
    for (const step of [1, 5, 1000]) assert.deepEqual(readBack(model, turn, step), expectedCalls);
    const said = turnIds(model, assistant('Look:', { toolCalls }), undefined);
    // The template's line end in front of a call is the model's own text to us.
    assert.deepEqual(readBack(model, said, 3), [{ text: 'Look:\n' }, ...expectedCalls]);
  });
}

test('reasoning, opened by the model, by the prompt, and closed in the prompt', () => {
  const turn = assistant('So.', { reasoningContent: 'Hm.\n\nYes.', toolCalls });
  const expected = [{ reasoning: 'Hm.\n\nYes.' }, { text: 'So.\n' }, ...expectedCalls];
  for (const enableThinking of [undefined, true]) {
    const ids = turnIds(chatml, turn, enableThinking);
    for (const step of [1, 4, 1000]) assert.deepEqual(readBack(chatml, ids, step), expected);
  }
  // The prompt has closed it already.
  const prompt = [...render(chatml, chatRequest([USER], { tools, enableThinking: false })).ids];
  const { output } = turnIds(chatml, assistant('So.', { toolCalls }), undefined);
  assert.deepEqual(readBack(chatml, { prompt, output }, 2), expected.slice(1));
});
