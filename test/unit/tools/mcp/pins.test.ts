/** Pins: what was first seen holds, on disk; a change is judged against it. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { listingOf } from '../../../../services/tools/mcp/connection.ts';
import { judgeListing, quarantineReason } from '../../../../services/tools/mcp/definitions.ts';
import { foreignSha256, parseForeignTool } from '../../../../services/tools/mcp/foreign-tool.ts';
import { openPins } from '../../../../services/tools/mcp/pins.ts';
import type { McpServerSpec } from '../../../../services/tools/mcp/server-spec.ts';
import { parsePack } from '../../../../services/tools/tool-pack.ts';

const tool = (name: string, more: Record<string, unknown> = {}) => ({
  ...{ name, description: 'd', inputSchema: { type: 'object' } },
  ...more,
});

function spec(more: Record<string, unknown> = {}): McpServerSpec {
  return parsePack(JSON.stringify({ mcp_servers: { s: { command: 'node', ...more } } })).servers[0]!;
}

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-pins-'));
  t.after(() => rm(dir, { recursive: true }));
  return dir;
}

test('first seen is pinned, on disk; the same again is no change; another description, schema or hint is one', async (t) => {
  const path = join(await folder(t), 'pins.json');
  const pins = await openPins(path, () => 1234);
  const first = await judgeListing(spec(), listingOf([tool('a'), tool('b')]), pins);
  assert.deepEqual([first.recorded, first.changes.size], [['a', 'b'], 0]);
  const again = await openPins(path);
  assert.equal(again.of('s').get('a')?.seenUnixMs, 1234);
  assert.deepEqual((await judgeListing(spec(), listingOf([tool('a')]), again)).recorded, []);
  const changed: [string, Record<string, unknown>][] = [
    ['description', { description: 'e' }],
    ['inputSchema', { inputSchema: { type: 'object', properties: { token: { type: 'string' } } } }],
    ['outputSchema', { outputSchema: { type: 'object' } }],
    ['annotations', { annotations: { readOnlyHint: true } }],
    ['title', { title: 'A' }],
  ];
  for (const [field, more] of changed) {
    const { pins: usable, changes } = await judgeListing(spec(), listingOf([tool('a', more)]), again);
    assert.deepEqual(changes.get('a')?.fields, [field]);
    assert.equal(usable.get('a')?.tool.description, 'd', 'the pinned definition stays the one in use');
  }
});

test('an accepted change takes the place of the pin; one that is not wanted is not pinned', async (t) => {
  const path = join(await folder(t), 'pins.json');
  const pins = await openPins(path);
  await judgeListing(spec(), listingOf([tool('a')]), pins);
  const next = tool('a', { description: 'new' });
  const sha256 = foreignSha256(parseForeignTool(next));
  const { changes } = await judgeListing(spec(), listingOf([next]), pins);
  assert.equal(changes.get('a')?.sha256, sha256);
  assert.match(
    quarantineReason('s', changes.get('a')!),
    new RegExp(`has changed description .*accept: \\[${sha256}\\]`),
  );
  const accepted = await judgeListing(spec({ accept: [sha256] }), listingOf([next]), pins);
  assert.deepEqual([accepted.recorded, accepted.changes.size], [['a'], 0]);
  assert.equal((await openPins(path)).of('s').get('a')?.sha256, sha256);
  const some = await judgeListing(spec({ tools: ['b'] }), listingOf([tool('b'), tool('c')]), pins);
  assert.deepEqual([...some.pins.keys()], ['b']);
  assert.equal(pins.of('s').has('c'), false);
});

test('what reaches nobody is not pinned: icons and metadata', () => {
  const plain = foreignSha256(parseForeignTool(tool('a')));
  assert.equal(
    foreignSha256(parseForeignTool(tool('a', { _meta: { x: 1 }, icons: [{ src: 'https://x/y.png' }] }))),
    plain,
  );
  assert.notEqual(foreignSha256(parseForeignTool(tool('a', { description: 'd ' }))), plain);
});

test('a file of pins that cannot be read, or does not match its hashes, is no reason to start anew', async (t) => {
  const path = join(await folder(t), 'pins.json');
  await (await openPins(path)).record('s', [parseForeignTool(tool('a'))]);
  const good = await readFile(path, 'utf8');
  for (const bad of ['', '{', '{"version":2,"servers":{}}', good.replace('"d"', '"changed behind our back"')]) {
    await writeFile(path, bad);
    await assert.rejects(openPins(path), {
      code: 'FAILED_PRECONDITION',
      message: /cannot be read .*; restore the file/s,
    });
  }
  await writeFile(path, good);
  assert.equal((await openPins(path)).of('s').size, 1, 'control');
});

test('many records at once leave one whole file', async (t) => {
  const dir = await folder(t);
  const pins = await openPins(join(dir, 'pins.json'));
  const names = Array.from({ length: 20 }, (_, i) => `t${i}`);
  await Promise.all(names.map((name) => pins.record('s', [parseForeignTool(tool(name))])));
  assert.equal((await openPins(join(dir, 'pins.json'))).of('s').size, 20);
  assert.deepEqual(await readdir(dir), ['pins.json']);
});

test('a definition that is too large, too deep or odd is left out with the reason', () => {
  const deep = JSON.parse(`${'{"a":'.repeat(200)}1${'}'.repeat(200)}`);
  const cases: [unknown, RegExp][] = [
    [tool('x', { description: 'd'.repeat(300_000) }), /expected at most 262144 bytes/],
    [tool('x', { inputSchema: { type: 'object', properties: deep } }), /nested too deep/],
    [tool('x', { description: '\ud800' }), /well-formed/],
    [tool(''), /name/],
    [tool('x'.repeat(300)), /name/],
    [null, /left out/],
    ['tool', /left out/],
    [tool('x', { inputSchema: { type: 'array' } }), /left out/],
  ];
  for (const [value, message] of cases) {
    const { tools, problems } = listingOf([value]);
    assert.equal(tools.size, 0);
    assert.match(problems.join(), message);
  }
});
