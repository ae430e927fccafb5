import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FILTERS, runFilters } from '../../../../clients/lsp/core/filters/chain.ts';
import type { Draft, FilterInput } from '../../../../clients/lsp/core/filters/draft.ts';
import { isWithinEdits } from '../../../../clients/lsp/core/filters/edit-distance.ts';

const folder = join(import.meta.dirname, '../../../golden/completion');

type Case = { name: string; input: FilterInput; model: string; before: string; after: string; expected: string };

const visible = (text: string): string => text.replaceAll('␣', ' ').replaceAll('⇥', '\t');

function readCase(name: string): Case {
  const [head = '', ...sections] = readFileSync(join(folder, name), 'utf8').split(/^--- /m);
  const settings = new Map(
    head
      .trim()
      .split('\n')
      .map((line) => line.split(': ') as [string, string]),
  );
  const parts = new Map<string, string>();
  for (const section of sections) {
    const at = section.indexOf('\n');
    parts.set(section.slice(0, at), visible(section.slice(at + 1).replace(/\n$/, '')));
  }
  const [before, after] = (parts.get('document') ?? '').split('║');
  const last = [...parts].at(-1);
  assert(before !== undefined && after !== undefined && last, `${name}: expected a document with one cursor`);
  const around = {
    languageId: settings.get('language') ?? '',
    prefix: before,
    suffix: after,
    linePrefix: before.slice(before.lastIndexOf('\n') + 1),
    lineSuffix: after.split('\n')[0] ?? '',
  };
  const input = {
    around,
    singleLine: settings.get('mode') === 'single',
    cut: settings.get('cut') === 'true',
    scoped: settings.get('scoped') === 'true',
    stop: [],
  };
  const expected = last[0].startsWith('dropped ') ? last[0] : last[1];
  return { name, input, model: parts.get('model') ?? '', before, after, expected };
}

const accepted = ({ text, coverBefore, coverAfter }: Draft, before: string, after: string): string =>
  `${before.slice(0, before.length - coverBefore)}├${text}┤${after.slice(coverAfter)}`;

const cases = readdirSync(folder)
  .filter((name) => name.endsWith('.txt'))
  .map(readCase);

describe('golden cases of the filters', () => {
  for (const { name, input, model, before, after, expected } of cases) {
    test(name, () => {
      const verdict = runFilters(model, input);
      assert.equal(verdict.ok ? accepted(verdict.draft, before, after) : `dropped ${verdict.rule}`, expected);
    });
  }

  test('every filter has a case that it changes or drops', () => {
    assert.equal(FILTERS.length, 15);
    assert(cases.length >= 26);
    for (const [index, [rule, filter]] of FILTERS.entries()) {
      const own = cases.filter(({ name }) => Number(name.slice(0, 2)) === index + 1);
      const acts = own.some(({ model, input }) => {
        let draft: Draft | null = { text: model, coverBefore: 0, coverAfter: 0 };
        for (const [, before] of FILTERS.slice(0, index)) draft = draft && before(draft, input);
        const after = draft && filter(draft, input);
        return draft !== null && (after === null || JSON.stringify(after) !== JSON.stringify(draft));
      });
      assert(acts, `${rule} acts in none of its ${own.length} cases`);
    }
  });
});

test('what is accepted holds its ground: the filters change their own output no more', () => {
  for (const { name, input, model, before, after } of cases) {
    const verdict = runFilters(model, input);
    if (!verdict.ok || verdict.draft.coverBefore > 0 || verdict.draft.coverAfter > 0) continue;
    const again = runFilters(verdict.draft.text, input);
    const rule = again.ok ? '' : again.rule;
    const text = again.ok ? accepted(again.draft, before, after) : rule;
    assert.equal(text, accepted(verdict.draft, before, after), name);
  }
});

test('a text of any size is judged within milliseconds', () => {
  const around = {
    languageId: 'python',
    prefix: 'x = 1\n'.repeat(4_000),
    suffix: '\ny = 2'.repeat(1_500),
    linePrefix: '',
    lineSuffix: '',
  };
  const texts = [
    'a'.repeat(16_000),
    'ab '.repeat(5_000),
    `${'  \n'.repeat(5_000)}x`,
    'f(x)\n'.repeat(3_000),
    '('.repeat(16_000),
  ];
  const startedAt = performance.now();
  for (const text of texts) runFilters(text, { around, singleLine: false, cut: false, scoped: false, stop: [] });
  const each = (performance.now() - startedAt) / texts.length;
  assert(each < 500, `${each.toFixed(1)} ms each`); // a hundred times what it takes: only a quadratic step fails it
});

test('edit distance within a bound agrees with the whole matrix', () => {
  const full = (a: string, b: string): number => {
    let row = Array.from({ length: b.length + 1 }, (_, j) => j);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
      }
      row = next;
    }
    return row[b.length]!;
  };
  const words = ['', 'a', 'abc', 'acb', 'kitten', 'sitting', 'abcdef', 'bcdefg', 'flaw', 'lawn'];
  for (const a of words)
    for (const b of words)
      for (const most of [0, 1, 2, 3, 5])
        assert.equal(isWithinEdits(a, b, most), full(a, b) <= most, `${a} ${b} ${most}`);
});
