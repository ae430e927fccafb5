import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { ChunkCollector } from '../../../../clients/lsp/core/chunks/chunk-collector.ts';
import { ChunkRing } from '../../../../clients/lsp/core/chunks/ring.ts';
import { hasSecretText, isSecretPath } from '../../../../clients/lsp/core/chunks/secrets.ts';
import { bagOf, similarity } from '../../../../clients/lsp/core/chunks/similarity.ts';
import { Documents } from '../../../../clients/lsp/core/documents.ts';
import { RING_CHUNKS_MAX, RING_EVICTED_AT_ONCE } from '../../../../clients/lsp/core/limits.ts';
import { placeOf } from '../../../../clients/lsp/core/place.ts';
import { Workspace } from '../../../../clients/lsp/workspace.ts';
import { VirtualClock } from './support/virtual-clock.ts';

const lines = (name: string, count = 6): string => Array.from({ length: count }, (_, i) => `${name}_${i}()`).join('\n');

test('secret files are known by name and folder, examples of them are not', () => {
  const secret = [
    '.env',
    '.env.local',
    'config/prod.env',
    'tls/server.key',
    'a.pem',
    'id_ed25519',
    '.npmrc',
    'credentials',
    'secrets.yaml',
    'terraform.tfstate',
    'prod.tfvars',
    'service-account-7.json',
    '.ssh/config',
    '.aws/credentials',
    'C:\\keys\\my.PFX',
  ];
  const plain = [
    '.env.example',
    'environment.ts',
    'keys.ts',
    'src/credentials.ts',
    'secret-rules.ts',
    'package.json',
    'a.pem.md',
  ];
  for (const path of secret) assert(isSecretPath(path), path);
  for (const path of plain) assert(!isSecretPath(path), path);
  const dashes = '-----';
  assert(hasSecretText(`a\n${dashes}BEGIN RSA PRIVATE KEY${dashes}\nb`));
  assert(!hasSecretText(`${dashes}BEGIN PUBLIC KEY${dashes} and the words PRIVATE KEY${dashes}`));
});

test('similarity is twice what is common by what there is', () => {
  assert.equal(similarity(bagOf('a\nb\nc\n'), bagOf('  c\n\na\nd\ne')), 4 / 7);
  assert.equal(similarity(bagOf(lines('x')), bagOf(lines('x'))), 1);
  assert.equal(similarity(bagOf('a'), bagOf('b')), 0);
});

test('the ring keeps the order of arrival and is only cut while nobody types', async () => {
  const clock = new VirtualClock();
  const ring = new ChunkRing(clock);
  for (let i = 0; i < RING_CHUNKS_MAX; i++) ring.take(`u${i}`, { path: `p${i}`, text: lines(`name${i}`) });
  const before = ring.chunksBeside('').map(({ path }) => path);
  assert.equal(before.length, RING_CHUNKS_MAX);
  ring.noteBusy();
  ring.take('u99', { path: 'p99', text: lines('late') });
  assert.deepEqual(
    ring.chunksBeside('').map(({ path }) => path),
    before,
    'what stands first in the prompt stays while the user types',
  );
  await clock.advance(5_000);
  const after = ring.chunksBeside('').map(({ path }) => path);
  assert.deepEqual(after, [...before.slice(RING_EVICTED_AT_ONCE), 'p99']);
});

test('the ring takes a new version in place of the old, and withholds what the model would copy', () => {
  const ring = new ChunkRing(new VirtualClock());
  ring.take('u1', { path: 'a', text: lines('same', 40) });
  ring.take('u2', { path: 'b', text: lines('other', 40) });
  ring.take('u1', { path: 'a', text: `${lines('same', 40)}\nmore()` });
  assert.deepEqual(
    ring.chunksBeside('').map(({ path, text }) => [path, text.endsWith('more()')]),
    [
      ['a', true],
      ['b', false],
    ],
  );
  assert.deepEqual(
    ring.chunksBeside(lines('other', 40)).map(({ path }) => path),
    ['a'],
  );
});

test('heads of open files and places that were left go beside a prompt; what may not be used does not', async () => {
  const documents = new Documents();
  const pathFor = (uri: string): string | null => (uri.includes('private') ? null : uri.slice(-4));
  const collector = new ChunkCollector({ clock: new VirtualClock(), documents, pathFor });
  documents.open('file:///m.py', 'python', 1, `${lines('head', 20)}\n${lines('main', 200)}`);
  documents.open('file:///o.py', 'python', 1, lines('other', 80));
  documents.open('file:///private.py', 'python', 1, lines('hidden', 80));
  documents.open('file:///x.py', 'python', 1, 'x = 1\n');
  await collector.noteCursor('file:///m.py', 150);
  await collector.noteCursor('file:///private.py', 3);
  await collector.noteCursor('file:///x.py', 0);
  const place = placeOf(documents.get('file:///x.py')!, { line: 0, character: 0 }, null);
  assert(place);
  const chunks = await collector.chunksFor(place);
  assert.deepEqual(
    chunks.map(({ path }) => path),
    ['m.py', 'o.py', 'm.py'],
  );
  assert.match(chunks[0]?.text ?? '', /^head_0/);
  assert(chunks[0]?.text.endsWith('\n') && chunks[0].text.length <= 500, 'a head ends with a whole line');
  assert.match(chunks[2]?.text ?? '', /main_130\(\)/);
  assert(!chunks.some(({ text }) => text.includes('hidden')));
});

test('git-ignored files, secrets and files elsewhere never go beside a prompt', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'quern-ws-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  write('repo/.git/info/exclude', 'local.py\n');
  write('repo/.gitignore', 'build/\n*.log\n!keep.log\n/top.py\n');
  write('repo/app/.gitignore', '*.gen.py\n!loud.log\n');
  const workspace = new Workspace();
  workspace.setFolders([{ uri: pathToFileURL(join(root, 'repo/app')).href, name: 'app' }]);
  const beside = (path: string): Promise<string | null> => workspace.pathBeside(pathToFileURL(join(root, path)).href);
  assert.equal(await beside('repo/app/src/a b.py'), 'src/a b.py');
  assert.equal(await beside('repo/app/keep.log'), 'keep.log');
  assert.equal(await beside('repo/app/top.py'), 'top.py', 'rooted rules are of their own folder');
  assert.equal(await beside('repo/app/loud.log'), 'loud.log', 'the inner rule wins');
  for (const path of [
    'src/a.log',
    'src/a.gen.py',
    'local.py',
    'src/build.log/x.py',
    '.env',
    'tls/a.key',
    '.git/config',
  ])
    assert.equal(await beside(`repo/app/${path}`), null, path);
  assert.equal(await beside('repo/other.py'), null, 'not of the workspace');
  assert.equal(await workspace.pathBeside('untitled:Notes'), null);
  assert.deepEqual(workspace.describe(pathToFileURL(join(root, 'repo/app/src/a.py')).href), {
    path: 'src/a.py',
    repository: 'app',
  });
  assert.deepEqual(workspace.describe('untitled:Notes'), { path: 'Notes', repository: '' });
  assert.equal(workspace.describe(pathToFileURL(join(root, 'repo/app/.env')).href), null);
  write('repo/app/.gitignore', 'src/\n');
  assert.equal(await beside('repo/app/src/a b.py'), 'src/a b.py', 'rules are remembered');
  workspace.reset();
  assert.equal(await beside('repo/app/src/a b.py'), null, 'until they are read anew');
});
