/** The tidy rules that look at all files at once. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SourceFile } from '../tidy/source.ts';
import { brokenLinks, deadFiles, environmentList, unlistedVariables } from '../tidy/tree-rules.ts';

describe('rules over the tree', () => {
  const tree = (files: Record<string, string>): SourceFile[] =>
    Object.entries(files).map(([path, text]) => ({ path, text }));
  const messages = (rule: typeof deadFiles, files: Record<string, string>): string[] =>
    rule(tree(files)).map(({ path, message }) => `${path}: ${message}`);

  test('dead-file: reached from a main, a launcher or a test, also through others and by URL', () => {
    const files = {
      'services/a/main.ts': "import { b } from './b.ts';",
      'services/a/b.ts': "new Worker(new URL('./c.ts', import.meta.url)); import '#kit/d.ts';",
      'services/a/c.ts': '',
      'services/kit/d.ts': '',
      'services/kit/tested.ts': '',
      'test/unit/e.test.ts': "import { x } from '#kit/tested.ts';",
      'services/gen/unused.ts': '',
    };
    assert.deepEqual(messages(deadFiles, files), []);
    assert.deepEqual(messages(deadFiles, { ...files, 'services/a/main.ts': '' }).length, 3);
  });

  test('broken-link: files, folders and headings; not web pages, not code', () => {
    const good =
      '[a](docs/a.md) [b](docs) [c](docs/a.md#two-words) [d](https://x.y) [e](#here) `[f](no.md)`\n\n# Here\n';
    const files = { 'README.md': good, 'docs/a.md': '## Two words\n[up](../README.md)\n' };
    assert.deepEqual(messages(brokenLinks, files), []);
    assert.match(
      messages(brokenLinks, { ...files, 'docs/b.md': '[x](gone.md)' })[0]!,
      /docs\/b\.md: \(gone\.md\) leads to no file/,
    );
    assert.match(messages(brokenLinks, { ...files, 'docs/b.md': '[x](a.md#three)' })[0]!, /has no such heading/);
    assert.match(messages(brokenLinks, { ...files, 'docs/b.md': '[x]: gone.md' })[0]!, /leads to no file/);
  });

  test('environment-list: both ways, once the list exists', () => {
    const code = {
      'services/a/config.ts': "text('QUERN_PORT')",
      'engine-native/src/a.cc': 'getenv("QUERN_ISA"); f("QUERN_CUDA");',
      'test/e2e/a.test.ts': "env.QUERN_MADE_UP = '1'; env.QUERN_TEST_LOG",
    };
    assert.deepEqual(messages(unlistedVariables, code), []);
    assert.deepEqual(
      messages(unlistedVariables, { ...code, [environmentList]: '# QUERN_PORT=1\nQUERN_ISA=auto\nQUERN_TEST_LOG=\n' }),
      [],
    );
    const wrong = messages(unlistedVariables, {
      ...code,
      [environmentList]: 'QUERN_PORT=1\nQUERN_OLD=2\nQUERN_TEST_LOG=\n',
    });
    assert.deepEqual(wrong, [
      `engine-native/src/a.cc: QUERN_ISA is not listed in ${environmentList}`,
      `${environmentList}: QUERN_OLD is listed but nothing reads it`,
    ]);
  });
});
