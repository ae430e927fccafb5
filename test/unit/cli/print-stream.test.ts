import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { RequestEnd, TextDelta } from '#gen/quern/gateway/v1/gateway.ts';
import { type GenerationEvent, printStream } from '../../../services/cli/print-stream.ts';
import { visible } from '../../../services/cli/terminal-text.ts';

type Item = { event: GenerationEvent };

const delta = (text: string): Item => ({
  event: { $case: 'delta', value: { ...TextDelta.decode(new Uint8Array()), text } },
});
const finished = (finishReason: FinishReason, stopString = ''): Item => ({
  event: { $case: 'choiceFinished', value: { index: 0, finishReason, stopString } },
});
const end: Item = { event: { $case: 'end', value: { ...RequestEnd.decode(new Uint8Array()), requestId: 'r' } } };

async function print(events: Parameters<typeof printStream>[0], isTTY = false) {
  const out = Object.assign(new PassThrough(), { isTTY });
  const printed = await printStream(events, out as unknown as NodeJS.WriteStream);
  return { ...printed, shown: String(out.read() ?? '') };
}

async function* stream(...items: Item[]): AsyncGenerator<Item> {
  yield* items;
}

test('the text is shown as it comes, and the last line says how it ended', async () => {
  const cut = await print(stream(delta('a'), delta('b'), finished(FinishReason.FINISH_REASON_LENGTH), end));
  assert.equal(cut.text, 'ab');
  assert.equal(cut.shown, 'ab');
  assert.match(cut.figures, /^\[0 tokens.*; cut at the token limit; request r\]\n$/);
  const stopped = await print(stream(finished(FinishReason.FINISH_REASON_STOP, '\n'), end));
  assert.match(stopped.figures, /; stopped at "\\n"; request r\]/);
  const whole = await print(stream(finished(FinishReason.FINISH_REASON_STOP), end));
  assert.match(whole.figures, /; ended by the model; request r\]/);
});

test('a terminal is shown control characters, a file gets them', async () => {
  const text = 'a\u001b[2J\tb\n\u009b';
  assert.equal(visible(text), 'a\u241b[2J\tb\n<U+009B>');
  assert.equal((await print(stream(delta(text)), true)).shown, visible(text));
  assert.equal((await print(stream(delta(text)))).shown, text);
  assert.equal((await print(stream(delta(text)), true)).text, text, 'what is kept is what came');
});

test('an answer that breaks off ends its line at a terminal, and nothing else', async () => {
  async function* broken(...items: Item[]): AsyncGenerator<Item> {
    yield* items;
    throw new Error('broke');
  }
  const shown = async (isTTY: boolean, ...items: Item[]): Promise<string> => {
    const out = Object.assign(new PassThrough(), { isTTY });
    await assert.rejects(printStream(broken(...items), out as unknown as NodeJS.WriteStream), /broke/);
    return String(out.read() ?? '');
  };
  assert.equal(await shown(true, delta('ab')), 'ab\n');
  assert.equal(await shown(true), '');
  assert.equal(await shown(false, delta('ab')), 'ab');
});
