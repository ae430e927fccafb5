/** What the extension says about itself: its manifest, its page, the documentation and the code tell the same. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultSettings, readSettings } from '../../../../clients/lsp/core/settings.ts';
import { registerCommands } from '../../../../clients/vscode/ui/commands.ts';
import { OutcomeBook } from '../../../../clients/vscode/ui/outcome.ts';
import { DEFAULT_URL } from '../../../../clients/vscode/web/http-settings.ts';
import { stubApi, stubContext } from './support/stub-api.ts';

type Property = {
  default: unknown;
  description?: string;
  markdownDescription?: string;
  scope?: string;
  minimum?: number;
  maximum?: number;
};
type Manifest = {
  icon: string;
  capabilities: { untrustedWorkspaces: { restrictedConfigurations: string[] } };
  contributes: {
    commands: { command: string; title: string; category: string }[];
    keybindings: { command: string; key: string }[];
    configuration: { properties: Record<string, Property> };
    walkthroughs: { steps: { description: string; completionEvents?: string[] }[] }[];
  };
};

const root = join(import.meta.dirname, '../../../..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const manifest = JSON.parse(read('clients/vscode/manifest.json')) as Manifest;
const { commands, configuration, walkthroughs, keybindings } = manifest.contributes;
const properties = new Map(Object.entries(configuration.properties));

/** Rows of the tables of a Markdown text whose first columns have these heads. */
function rowsUnder(text: string, heads: readonly string[]): string[][] {
  const cells = (line: string): string[] =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
  const lines = text.split('\n');
  return lines.flatMap((line, at) => {
    if (!heads.every((head, column) => cells(line)[column] === head)) return [];
    const rest = lines.slice(at + 2);
    const end = rest.findIndex((row) => !row.startsWith('|'));
    return rest.slice(0, end < 0 ? undefined : end).map(cells);
  });
}

/** A default as a table has it. */
function defaultIn(cell: string): unknown {
  const text = cell.replaceAll('`', '');
  if (text === 'from the environment') return '';
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

test('the page of the extension lists every setting, with its default and description', () => {
  const rows = rowsUnder(read('clients/vscode/README.md'), ['setting', 'default', 'meaning']);
  const listed = rows.map(([name = '', value = '', meaning]) => [name.replaceAll('`', ''), defaultIn(value), meaning]);
  const known = [...properties].map(([name, one]) => [name, one.default, one.markdownDescription ?? one.description]);
  assert.deepEqual(listed, known);
});

test("docs/editors.md lists every setting with its default, and no other but the language server's apiKey", () => {
  const rows = rowsUnder(read('docs/editors.md'), ['setting', 'default', 'meaning']);
  const listed = rows.flatMap(([names = '', value = '']) =>
    names.split(',').map((name) => {
      const bare = name.trim().replaceAll('`', '');
      return [bare.startsWith('quern.') ? bare : `quern.${bare}`, defaultIn(value)] as const;
    }),
  );
  const known = [...properties].map(([name, one]) => [name, one.default] as const);
  assert.equal(new Set(listed.map(([name]) => name)).size, listed.length, 'none is listed twice');
  assert.deepEqual(new Map(listed), new Map([...known, ['quern.apiKey', '']]));
});

test('defaults and bounds are those of the language server', () => {
  for (const [name, value] of Object.entries(defaultSettings))
    assert.deepEqual(properties.get(`quern.${name}`)?.default, value, name);
  assert.equal(properties.get('quern.gatewayUrl')?.default, DEFAULT_URL);
  const bounded = [...properties].filter(([, { minimum }]) => minimum !== undefined);
  assert.equal(bounded.length, 3);
  for (const [name, { minimum = 0, maximum = 0 }] of bounded) {
    const refused = (value: number): number => readSettings({ [name.slice('quern.'.length)]: value }).problems.length;
    assert.deepEqual([minimum - 1, minimum, maximum, maximum + 1].map(refused), [1, 0, 0, 1], name);
  }
});

test('what says where something is belongs to the user, not to a workspace', () => {
  const ofMachine = [...properties].filter(([, { scope }]) => scope === 'machine').map(([name]) => name);
  assert.deepEqual(ofMachine.sort(), [...manifest.capabilities.untrustedWorkspaces.restrictedConfigurations].sort());
  for (const name of ['gateway', 'gatewayUrl', 'caFile', 'serverCommand', 'traceUrl'])
    assert(ofMachine.includes(`quern.${name}`), name);
});

test('commands that are named exist, and the page of the extension lists them all', () => {
  const stub = stubApi();
  const registered: string[] = [];
  stub.api.commands.registerCommand = (name: string) => {
    registered.push(name);
    return { dispose() {} };
  };
  const { secrets } = stubContext();
  const none = { state: () => ({ kind: 'ready' }) as const, showLog() {}, diagnostics: async () => '' };
  registerCommands({ api: stub.api, secrets, outcomes: new OutcomeBook(), extensionId: 'quern.quern', ...none });
  const named = commands.map(({ command }) => command);
  assert.deepEqual(registered.toSorted(), named.toSorted());
  const listed = rowsUnder(read('clients/vscode/README.md'), ['command', 'does']).map(([title]) => title);
  assert.deepEqual(
    listed,
    commands.map(({ category, title }) => `${category}: ${title}`),
  );
  const texts = JSON.stringify(walkthroughs);
  const inSteps = [...texts.matchAll(/(?:command|onCommand):(quern\.\w+)/g)].map(([, name]) => name ?? '');
  assert(inSteps.length > 4);
  for (const name of [...inSteps, ...keybindings.map(({ command }) => command)]) assert(named.includes(name), name);
});

test('the icon is a small PNG of at least 128 points', () => {
  const icon = readFileSync(join(root, 'docs/images/editors/icon.png'));
  assert.equal(icon.toString('latin1', 1, 4), 'PNG');
  const [width, height] = [icon.readUInt32BE(16), icon.readUInt32BE(20)];
  assert.equal(width, height);
  assert(width >= 128 && icon.length < 10_000, `${width} points, ${icon.length} bytes`);
});
