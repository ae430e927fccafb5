import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Documents } from '../../../../clients/lsp/core/documents.ts';
import type { ContextChunk } from '../../../../clients/lsp/core/infill-source.ts';
import { candidates, ImportedDeclarations } from '../../../../clients/lsp/outline/imported-declarations.ts';
import { Outliner } from '../../../../clients/lsp/outline/outliner.ts';

function startOutliner(t: TestContext): Outliner {
  const outliner = new Outliner();
  t.after(() => outliner.close());
  return outliner;
}

const TYPESCRIPT = `import { a, b as c } from './x.ts';
import * as all from '../n';
import d from './d';
import 'side-effect';
export async function load(path: string): Promise<string> { return path; }
export class Shape extends Base {
  readonly sides: number = 3;
  area(scale: number): number { return scale; }
}
export const twice = (n: number): number => n * 2;
export type Name = { first: string };
function hidden(): void {}
`;

test('TypeScript: imports with their names, exported declarations without their bodies', async (t) => {
  const outline = await startOutliner(t).outline('typescript', TYPESCRIPT);
  assert.deepEqual(outline?.imports, [
    { source: './x.ts', names: ['a', 'b'] },
    { source: '../n', names: null },
    { source: './d', names: null },
    { source: 'side-effect', names: [] },
  ]);
  assert.deepEqual(outline?.declarations, [
    { name: 'load', signature: 'async function load(path: string): Promise<string>;' },
    {
      name: 'Shape',
      signature: 'class Shape extends Base {\n  readonly sides: number = 3\n  area(scale: number): number\n}',
    },
    { name: 'twice', signature: 'const twice = (n: number): number => …' },
    { name: 'Name', signature: 'type Name = { first: string };' },
  ]);
});

test('Python: relative and absolute imports, functions and classes, decorated ones too', async (t) => {
  const source = `from .a.b import c, d as e
from pkg.m import *
import os.path
@cache
def area(width: int, height: int) -> int:
    return width * height
class Shape(Base):
    sides: int = 3
    def scale(self, by):
        pass
`;
  const outline = await startOutliner(t).outline('python', source);
  assert.deepEqual(outline?.imports, [
    { source: '.a.b', names: ['c', 'd'] },
    { source: 'pkg.m', names: null },
    { source: 'os.path', names: null },
  ]);
  assert.deepEqual(outline?.declarations, [
    { name: 'area', signature: 'def area(width: int, height: int) -> int: ...' },
    { name: 'Shape', signature: 'class Shape(Base):\n  sides: int = 3\n  def scale(self, by):' },
  ]);
});

test('a language without a grammar has no outline, nor has anything behind the close', async (t) => {
  const outliner = startOutliner(t);
  assert.equal(await outliner.outline('cobol', 'X'), null);
  assert.equal(await outliner.outline('constructor', 'X'), null);
  const late = outliner.outline('python', 'import a\n');
  await outliner.close();
  assert.equal(await late, null);
  assert.equal(await outliner.outline('python', 'import a\n'), null);
});

test('an import names files, likeliest first; a package names none', () => {
  assert.deepEqual(candidates('react', '/p/a.ts', ['/p']), []);
  assert.equal(candidates('./b.js', '/p/a.ts', [])[0], '/p/b.ts');
  assert(candidates('./b', '/p/a.ts', []).includes('/p/b/index.ts'));
  assert.deepEqual(candidates('..shapes', '/p/app/a.py', ['/p']), ['/p/shapes.py', '/p/shapes/__init__.py']);
  assert(candidates('pkg.m', '/p/app/a.py', ['/p']).includes('/p/pkg/m.py'));
});

test('what a file imports is known after a while, from the disk or from the open document', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'quern-out-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'lib'));
  writeFileSync(
    join(root, 'lib/shapes.ts'),
    'export function area(w: number): number { return w; }\nexport const other = 1;\n',
  );
  writeFileSync(join(root, 'secret.ts'), 'export function hidden(): void {}\n');
  const outliner = startOutliner(t);
  const documents = new Documents();
  const known = new ImportedDeclarations({
    documents,
    outline: (languageId, text) => outliner.outline(languageId, text),
    pathFor: async (uri) => (uri.includes('secret') ? null : (uri.split('/').at(-1) ?? null)),
    roots: () => [root],
  });
  const uri = pathToFileURL(join(root, 'main.ts')).href;
  const until = async (check: (chunks: readonly ContextChunk[]) => boolean): Promise<readonly ContextChunk[]> => {
    for (const last = Date.now() + 20_000; Date.now() < last; ) {
      const chunks = known.beside(uri);
      if (check(chunks)) return chunks;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return assert.fail('what is imported did not become known within 20 s');
  };
  documents.open(uri, 'typescript', 1, "import { area } from './lib/shapes.js';\nimport { hidden } from './secret';\n");
  assert.deepEqual(known.beside(uri), [], 'a request does not wait');
  const found = await until((chunks) => chunks.length > 0);
  assert.deepEqual(found, [{ path: 'shapes.ts', text: 'function area(w: number): number;\n', kind: 'declaration' }]);
  const shapes = pathToFileURL(join(root, 'lib/shapes.ts')).href;
  documents.open(shapes, 'typescript', 1, 'export function area(w: number, h: number): number { return w * h; }\n');
  known.saved();
  await until(([chunk]) => chunk?.text === 'function area(w: number, h: number): number;\n');
});
