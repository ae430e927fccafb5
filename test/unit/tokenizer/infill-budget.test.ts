/** How long an infill's prompt may be, what goes when it is longer, and where its window lies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { byteLevelModel, FILES, input, QWEN, qwen, shown } from './support/infill-models.ts';

const LINES = Array.from({ length: 1000 }, (_, i) => `line ${i} = call(${i * 7});\n`);

/** First line of the prefix window of a prompt. */
function firstLine(prefix: string, maxPromptTokens: number, suffix = 'end\n'): number {
  const text = shown(qwen, { prefix, suffix, maxPromptTokens });
  return Number(/<\|fim_prefix\|>line (\d+)/.exec(text)![1]);
}

test('over budget the prefix starts on a grid of 64 lines that typing does not move', () => {
  const starts = new Set<number>();
  let moved = 0;
  let last = -1;
  for (let line = 600; line < 760; line += 1) {
    const start = firstLine(`${LINES.slice(0, line).join('')}    x.y`, 2000);
    assert.equal(start % 64, 0);
    starts.add(start);
    if (start !== last && last >= 0) moved += 1;
    last = start;
  }
  assert(moved <= 3 && starts.size === moved + 1, `the window moved ${moved} times in 160 lines`);
});

test('typing changes no earlier token of the prompt', () => {
  const head = LINES.slice(0, 40).join('');
  const typed = '    const total = rows.map((row) => row.price).sum();';
  let before: number[] = [];
  const headIds = qwen.tokenizer.encode(head, 'none').length;
  for (let end = 0; end <= typed.length; end += 1) {
    const ids = [...qwen.infill!.render(input({ prefix: head + typed.slice(0, end), ...FILES })).ids];
    const at = ids.indexOf(qwen.tokenizer.vocabulary.idOf.get('<|fim_prefix|>')!) + headIds;
    if (before.length > 0) assert.deepEqual(ids.slice(0, at), before.slice(0, at));
    before = ids;
  }
});

test('the budget is kept: chunks go first, then prefix and suffix at 3:1, and what went is told', () => {
  const prefix = LINES.slice(0, 500).join('');
  const suffix = LINES.slice(500).join('');
  const chunks = Array.from({ length: 10 }, (_, i) => ({ path: `c${i}.ts`, text: LINES.slice(i, i + 12).join('') }));
  const whole = qwen.infill!.render(input({ prefix, suffix, chunks }));
  assert.deepEqual([whole.droppedChunks, whole.droppedPrefixTokens, whole.droppedSuffixTokens], [0, 0, 0]);
  for (const max of [whole.ids.length, whole.ids.length - 1, whole.ids.length - 500, 9000, 5000, 2000, 600, 200, 90]) {
    const prompt = qwen.infill!.render(input({ prefix, suffix, chunks, maxPromptTokens: max }));
    assert(prompt.ids.length <= max, `${prompt.ids.length} > ${max}`);
    if (prompt.droppedPrefixTokens + prompt.droppedSuffixTokens > 0) assert.equal(prompt.droppedChunks, 10);
    if (max === whole.ids.length) assert.equal(prompt.droppedChunks, 0);
    if (max < 5000) assert(prompt.droppedPrefixTokens > 0 && prompt.droppedSuffixTokens > 0);
    const cut = prompt.ids.indexOf(qwen.tokenizer.vocabulary.idOf.get('<|fim_suffix|>')!);
    if (max === 2000) assert(prompt.ids.length - cut < 0.3 * max, 'the suffix has a quarter');
  }
  const some = qwen.infill!.render(input({ prefix, suffix, chunks, maxPromptTokens: whole.ids.length - 500 }));
  assert(some.droppedChunks > 0 && some.droppedChunks < 10);
  const text = shown(qwen, { prefix, suffix, chunks, maxPromptTokens: whole.ids.length - 500 });
  assert(!text.includes('c0.ts') && text.includes('c9.ts'), 'the oldest chunks go first');
});

test('declarations are dropped when nothing else is left to drop, and stand where they stood', () => {
  const chunks = ['d0', 'd1', 'r0', 'r1', 'r2'].map((name, i) => ({
    path: `${name}.ts`,
    text: LINES.slice(80 * i, 80 * i + 80).join(''),
    ...(name.startsWith('d') && { kind: ChunkKind.CHUNK_KIND_DECLARATION }),
  }));
  const around = { prefix: 'x', suffix: 'y', chunks };
  const whole = qwen.infill!.render(input(around)).ids.length;
  const keptOf = (max: number): string => {
    const text = shown(qwen, { ...around, maxPromptTokens: max });
    return (text.match(/[dr]\d(?=\.ts)/g) ?? []).join(' ');
  };
  const seen = new Set<string>();
  for (let max = whole; max > 64; max -= 20) seen.add(keptOf(max));
  assert.deepEqual([...seen], ['d0 d1 r0 r1 r2', 'd0 d1 r1 r2', 'd0 d1 r2', 'd0 d1', 'd1', '']);
});

test('what prefix or suffix does not need the other gets', () => {
  const long = LINES.join('');
  const prompt = qwen.infill!.render(input({ prefix: 'x', suffix: long, maxPromptTokens: 1000 }));
  assert.equal(prompt.droppedPrefixTokens, 0);
  assert.equal(prompt.ids.length, 1000);
  const other = qwen.infill!.render(input({ prefix: 'y '.repeat(5000), suffix: 'x', maxPromptTokens: 1000 }));
  assert.equal(other.droppedSuffixTokens, 0);
  assert(other.ids.length > 750 && other.ids.length <= 1000, 'one line without a grid is cut by tokens, in steps');
});

const spm = byteLevelModel(QWEN, { quern: { fim_family: 'qwen2.5-coder-spm', infill_prompt_tokens: 448 } });

/** How often something before the end of the longest common beginning changed, over prompts that typing makes. */
function changes(prompts: readonly Uint32Array[]): number {
  // The line that is typed may be tokenized anew with each key; a code line of the test is no longer than this.
  const line = 40;
  return prompts.filter((ids, i) => {
    const before = prompts[i - 1];
    return before !== undefined && !before.slice(0, -line).every((id, at) => ids[at] === id);
  }).length;
}

test('a small window has a small grid: typing moves it once in some lines, and most of the budget is used', () => {
  const suffix = LINES.slice(0, 60).join('');
  const typed = LINES.slice(300, 332).join('');
  const prompts: Uint32Array[] = [];
  for (let end = 0; end < typed.length; end += 7) {
    const prefix = LINES.slice(0, 300).join('') + typed.slice(0, end);
    prompts.push(spm.infill!.render(input({ prefix, suffix, maxPromptTokens: 448 })).ids);
  }
  const moved = changes(prompts);
  assert(prompts.length > 80 && moved >= 1 && moved <= 8, `it moved ${moved} times in 32 lines`);
  for (const { length } of prompts) assert(length <= 448 && length > 0.7 * 448, `${length} tokens`);
});

test('with the suffix first a short prefix leaves it what it needs in steps', () => {
  const suffix = LINES.slice(0, 200).join('');
  const typed = LINES.slice(300, 320).join('');
  const prompts: Uint32Array[] = [];
  for (let end = 0; end < typed.length; end += 3)
    prompts.push(spm.infill!.render(input({ prefix: typed.slice(0, end), suffix, maxPromptTokens: 448 })).ids);
  const moved = changes(prompts);
  assert(moved >= 3 && moved <= 8, `the suffix moved ${moved} times while the prefix grew to its share`);
  assert(prompts.every(({ length }) => length <= 448));
});

test('a line that is longer than the window is cut in steps too', () => {
  const prompts: Uint32Array[] = [];
  for (let words = 600; words < 700; words += 1)
    prompts.push(spm.infill!.render(input({ prefix: 'y '.repeat(words), suffix: 'x', maxPromptTokens: 200 })).ids);
  const moved = changes(prompts);
  assert(moved >= 1 && moved <= 5, `it moved ${moved} times`);
});

test('what quern.json advises is told of a model that can fill in, and must be a number of tokens', () => {
  assert.equal(spm.infillPromptTokens, 448);
  assert.equal(qwen.infillPromptTokens, null);
  for (const given of [63, 1.5, '448', -1, 1 << 21, {}])
    assert.throws(() => byteLevelModel(QWEN, { quern: { infill_prompt_tokens: given } }), {
      code: 'FAILED_PRECONDITION',
      message: /quern\.json: expected infill_prompt_tokens to be a whole number from 64 to 1048576, got .*; correct it/,
    });
  assert.equal(byteLevelModel(QWEN, { quern: { infill_prompt_tokens: null } }).infillPromptTokens, null);
});

test('a cut inside a line begins with a whole character', () => {
  const text = shown(qwen, { prefix: '漢字仮名'.repeat(500), suffix: 'x', maxPromptTokens: 101 });
  assert(!text.includes('\ufffd'), text.slice(0, 40));
});

test('a budget without room for any text is refused with the numbers', () => {
  assert.throws(() => qwen.infill!.render(input({ maxPromptTokens: 10 })), {
    code: 'INVALID_ARGUMENT',
    message: "max_prompt_tokens: expected room for the format's own 3 tokens and 16 of text, got 10; raise it",
  });
});
