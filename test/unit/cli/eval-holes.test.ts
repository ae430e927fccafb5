/** Which places of a source become holes, and that a seed decides them. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { around, cutHoles, EDITOR_WINDOW, KINDS, type Kind, placesIn } from '../../../services/cli/eval/holes.ts';
import { seededRandom } from '../../../services/cli/eval/random.ts';
import { heldOutSources, sha256, sourcesIn } from '../../../services/cli/eval/sources.ts';
import { languageOf, openSyntax } from '../../../services/cli/eval/syntax.ts';

const PYTHON = `# a comment of some length, with names
import os

text = """a string over
several = lines(of, text)
"""


def run(values):
    total = sum(values)  # all of them
    if total:
        return total
    ok = 1
`;

async function placed(text: string, language: string, kind: Kind): Promise<string[]> {
  const syntax = await openSyntax();
  try {
    const reading = await syntax.read(text, language);
    return placesIn(text, reading, kind).map(({ start, end }) => text.slice(start, end));
  } finally {
    syntax.close();
  }
}

test('lines: from a token to the end, with a name and eight visible characters; neither comments nor what is in strings', async () => {
  const found = await placed(PYTHON, 'python', 'line');
  const whole = found.filter((text) => PYTHON.split('\n').some((line) => line.trim() === text));
  assert.deepEqual(whole, [
    'import os',
    'def run(values):',
    'total = sum(values)  # all of them',
    'if total:',
    'return total',
  ]);
  assert.ok(found.includes('(values)  # all of them'));
  assert.ok(found.every((text) => text.replaceAll(/\s/g, '').length >= 8 && !text.includes('several')));
  assert.ok(!found.some((text) => text.startsWith('ok')), 'ok = 1 is too short');
});

test('spans: within a line, code on both sides', async () => {
  const found = await placed('const answer = compute(first, second);\n', 'typescript', 'span');
  assert.ok(found.includes('compute(first, second)') && found.includes('answer = compute'));
  assert.ok(found.every((text) => !text.startsWith('const') && !text.endsWith(';')));
});

test('blocks: from the first to the last of 2 to 10 lines', async () => {
  assert.deepEqual(await placed(PYTHON, 'python', 'block'), [
    'total = sum(values)  # all of them\n    if total:\n        return total\n    ok = 1',
  ]);
  const long = `function f(x) {\n${'  step(x);\n'.repeat(11)}}\n`;
  assert.deepEqual(await placed(long, 'javascript', 'block'), []);
  assert.deepEqual(await placed('function f(x) {\n  step(x);\n  return x;\n}\n', 'javascript', 'block'), [
    'step(x);\n  return x;',
  ]);
});

test('other languages: line ends that a grammar counts in are no part of a hole', async () => {
  const go = 'func add(first, second int) int {\n\ttotal := first + second\n\treturn total\n}\n';
  assert.deepEqual(await placed(go, 'go', 'block'), ['total := first + second\n\treturn total']);
  assert.deepEqual(await placed('func one(first int) {\n\tprintln(first)\n}\n', 'go', 'block'), []);
  const rust = '/// What it does.\nfn add(first: i32) -> i32 {\n    first\n}\n';
  assert.ok(
    (await placed(rust, 'rust', 'line')).includes('fn add(first: i32) -> i32 {'),
    'behind a comment to its end',
  );
  const java = 'class A {\n  A(int first) {\n    this.first = first;\n    this.second = 2;\n  }\n}\n';
  assert.ok((await placed(java, 'java', 'block')).includes('this.first = first;\n    this.second = 2;'));
});

test('lines that a program made are no holes, and take no time', async () => {
  const long = `var one = first;\n${'call(one,two);'.repeat(3000)}\nvar two = second;\n`;
  assert.deepEqual(
    new Set((await placed(long, 'javascript', 'line')).map((text) => text.length < 20)),
    new Set([true]),
  );
  assert.ok((await placed(long, 'javascript', 'span')).length < 20);
  const block = `function f() {\n  one();\n  ${'call(one,two);'.repeat(40)}\n}\n`;
  assert.deepEqual(await placed(block, 'javascript', 'block'), []);
});

test('a look around a hole finds what a look at the whole file does', async (t) => {
  const syntax = await openSyntax();
  t.after(() => syntax.close());
  for (const { text, language, path } of (await heldOutSources()).slice(0, 12)) {
    const at = { start: Math.floor(text.length / 3), end: Math.floor(text.length / 2) };
    const broken = `${text.slice(0, at.start)}) = (${text.slice(at.start)}`;
    for (const one of [text, broken]) {
      const whole = await syntax.read(one, language);
      const near = await syntax.readAround(one, language, at);
      assert.equal(near.errors, whole.errors, path);
      const inside = (tokens: readonly { start: number; end: number }[]) =>
        tokens.filter(({ start, end }) => start >= at.start && end <= at.end);
      assert.deepEqual(inside(near.tokens), inside(whole.tokens), path);
    }
  }
});

test('a seed decides the holes; languages take turns; no line is drawn twice', async (t) => {
  const syntax = await openSyntax();
  t.after(() => syntax.close());
  const sources = (await heldOutSources()).slice(0, 20);
  const files = await Promise.all(
    sources.map(async (source) => ({ source, reading: await syntax.read(source.text, source.language) })),
  );
  for (const kind of KINDS) {
    const cut = (seed: number) => cutHoles(files, kind, 60, seededRandom(seed));
    const holes = cut(3);
    assert.equal(holes.length, 60);
    assert.deepEqual(
      holes.map(({ id }) => id),
      cut(3).map(({ id }) => id),
    );
    assert.notDeepEqual(
      holes.map(({ id }) => id),
      cut(4).map(({ id }) => id),
    );
    assert.equal(
      new Set(holes.map(({ source, start }) => `${source.path}:${source.text.lastIndexOf('\n', start - 1)}`)).size,
      60,
    );
    const languages = new Set(files.map(({ source }) => source.language));
    for (const language of languages) {
      const share = holes.filter(({ source }) => source.language === language).length;
      assert.ok(Math.abs(share - 60 / languages.size) <= 1, `${language}: ${share}`);
    }
  }
});

test('fewer places than wanted: all of them, once', async (t) => {
  const syntax = await openSyntax();
  t.after(() => syntax.close());
  const text = 'first_name = 1\nsecond_name = 2\n';
  const source = { path: 'a.py', language: 'python', sha256: sha256(text), text };
  const files = [{ source, reading: await syntax.read(text, 'python') }];
  const holes = cutHoles(files, 'line', 10, seededRandom(1));
  assert.deepEqual(holes.map(({ start }) => text.slice(0, start).split('\n').length).sort(), [1, 2]);
});

test('what is sent is what an editor sends: 255 lines before, 64 from the line on', () => {
  const text = Array.from({ length: 1000 }, (_, at) => `line${at}`).join('\n');
  const start = text.indexOf('line500');
  const hole = {
    id: '',
    kind: 'line' as const,
    source: { path: 'a.py', language: 'python', sha256: '', text },
    start,
    end: start + 7,
  };
  const { prefix, suffix } = around(hole, EDITOR_WINDOW);
  assert.deepEqual([prefix.split('\n').length, prefix.endsWith('line499\n')], [255, true]);
  assert.deepEqual([suffix.split('\n').length, suffix.startsWith('\nline501\n')], [64, true]);
  assert.deepEqual(around(hole, { before: 2, after: 1 }), { prefix: 'line499\n', suffix: '' });
});

test("the default sources are files that quern-mini's training leaves out, unchanged and under their licences", async () => {
  type Kept = { package: string; path: string; sha256: string };
  const read = (path: string): unknown =>
    JSON.parse(readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8'));
  const manifest = read('training/held-out-manifest.json') as Kept[];
  const known = new Set(manifest.map((file) => `${file.package}/${file.path} ${file.sha256}`));
  const sources = await heldOutSources();
  assert.ok(sources.length >= 40);
  for (const source of sources) assert.ok(known.has(`${source.path} ${source.sha256}`), source.path);
  const { packages } = read('services/cli/eval/held-out.json') as {
    packages: { package: string; licence_text: string }[];
  };
  for (const { package: name, licence_text: licence } of packages) assert.match(licence, /copyright/i, name);
  assert.deepEqual(
    [...new Set(sources.map(({ path }) => packages.some((one) => path.startsWith(`${one.package}/`))))],
    [true],
  );
  const syntax = await openSyntax();
  for (const { text, language, path } of sources) assert.equal((await syntax.read(text, language)).errors, 0, path);
  syntax.close();
});

test('own sources: every file of a known language in a folder, and a clear refusal where there is none', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-eval-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const text = `${'value = compute(other)\n'.repeat(20)}`;
  mkdirSync(join(folder, 'src'));
  mkdirSync(join(folder, 'node_modules'));
  writeFileSync(join(folder, 'src', 'a.py'), text.replaceAll('\n', '\r\n'));
  writeFileSync(join(folder, 'copy.py'), text);
  writeFileSync(join(folder, 'node_modules', 'b.js'), text);
  writeFileSync(join(folder, 'z.py'), `${text}more = 1\n`);
  writeFileSync(join(folder, 'src', 'z.py'), `${text}most = 1\n`);
  writeFileSync(join(folder, 'short.py'), 'a = 1\n');
  writeFileSync(join(folder, 'notes.txt'), text);
  const found = await sourcesIn([folder]);
  assert.deepEqual(
    found.map(({ path, language, text: read }) => [path, language, read === text]),
    [
      ['copy.py', 'python', true],
      ['src/z.py', 'python', false],
      ['z.py', 'python', false],
    ],
    'the same text counts once, under the first of its paths',
  );
  const both = [folder, join(folder, 'src')];
  assert.deepEqual(await sourcesIn(both), await sourcesIn(both.toReversed()), 'whatever the order of the folders is');
  await assert.rejects(
    sourcesIn([join(folder, 'node_modules', 'none')]),
    /--sources: expected a folder or file, got .*none/,
  );
  await assert.rejects(
    sourcesIn([join(folder, 'notes.txt')]),
    /expected files of 300 to 80000 bytes that end in \.py, /,
  );
  assert.deepEqual(
    [languageOf('a/b.tsx'), languageOf('Makefile'), languageOf('a.py.txt')],
    ['typescriptreact', null, null],
  );
});
