/**
 * The extension as a user has it: VS Code's own workbench in a browser, a real gateway over HTTP, and a scripted model, so that
 * texts are known to the byte. With EDITOR_PICTURES=FOLDER it leaves the screenshots of docs/editors.md there.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { createKey } from '#kit/keys-file.ts';
import { KEY_MARK } from '../../clients/vscode/ui/key-in-transit.ts';
import { eventually, startMesh, type TestMesh } from '../contract/gateway/fakes/mesh.ts';
import { type PageServer, startPageServer } from './support/page-server.ts';
import { prefixOf, scriptOf } from './support/scripted-model.ts';
import { launchBrowser, Workbench } from './support/workbench.ts';

const AVERAGE = 'def average(numbers):\n    """Arithmetic mean."""\n';
// No language with a server of its own: that would take the processor from what is tested.
const SWITCH = 'const char *name_of(int code) {\n  switch (code) {\n';

const script = scriptOf([
  [AVERAGE, '    return sum(numbers) / len(numbers)\n'],
  ['total = ', 'price * (1 + tax_rate)\n'],
  ['area = ', 'width * height\n'],
  [SWITCH, '    case 200:\n      return "OK";\n    case 404:\n      return "Not Found";\n  }\n}\n'],
  ['def greet(name):\r\n', 'never: prompts have no CRLF\n'],
  ['def greet(name):\n', '    text = f"Hello, {name}"\n    print(text)\n'],
  ['secret = ', 'never()\n'],
  ['int one = ', 'count + 1;\n'],
]);

const FILES: Record<string, string> = {
  'average.py': AVERAGE,
  'order.py': 'price = 20\ntax_rate = 0.19\n',
  'area.py': 'width = 3\nheight = 4\n',
  'status.c': SWITCH,
  'greet.py': 'import sys\r\n\r\ndef greet(name):\r\n',
  'private.py': '# nothing of this is sent\n',
  'count.c': 'int count = 0;\n',
  'empty.py': '# the model has nothing to say here\n',
};

const ends: (() => unknown)[] = [];
const whole = { after: (end: () => unknown): void => void ends.unshift(end) };
let server: PageServer;
let mesh: TestMesh;
let token: string;
let browser: Browser;
let at: Workbench;

before(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-editor-'));
  whole.after(() => rmSync(folder, { recursive: true, force: true }));
  server = await startPageServer(whole, folder);
  for (const [name, text] of Object.entries(FILES)) server.files.set(name, Buffer.from(text));
  const keys = join(folder, 'keys.json');
  ({ token } = await createKey(keys, { tenant: 'acme', user: 'ada' }));
  const env = { QUERN_KEYS_FILE: keys, QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS: server.origin };
  mesh = await startMesh(whole, { engine: { script }, env });
  Object.assign(server.defaults, {
    ...{ 'quern.gatewayUrl': mesh.url, 'quern.traceUrl': `${server.origin}/trace/{traceId}` },
    // However busy the machine is: texts come whole.
    'quern.trace.server': 'verbose', // no more than warnings are logged before a test sets the level
    ...{ 'quern.softDeadlineMs': 60_000, 'quern.hardDeadlineMs': 60_000, 'quern.maxTokens': 200 },
    'quern.reportEvents': false, // running-mesh.test.ts has it on; here every request is counted
  });
  browser = await launchBrowser(whole);
  at = await Workbench.open(browser, server);
});

after(async () => {
  for (const end of ends) await end();
});

const asked = (): string[] =>
  mesh.engine.requests.filter(({ sampling }) => sampling?.maxTokens !== 0).map((request) => prefixOf(request));

/** At the end of a file. */
async function openAtEnd(name: string): Promise<void> {
  await at.openFile(name);
  await at.press('Control+End');
}

test('without a key the status bar warns; with one from the secret storage it is ready', async () => {
  await openAtEnd('average.py');
  await at.type('    ret');
  await at.status('warning');
  assert.match(await at.statusText(), /UNAUTHENTICATED.*Set API Key/);
  assert.deepEqual(asked(), []);
  await at.hoverStatus();
  await at.picture('1-key');
  await at.command('Quern: Set API Key…');
  await at.input(token);
  await at.notification('the API key is in the secret storage');
  await at.clearNotifications();
  await at.status('sparkle');
});

test('what is typed brings ghost text, and Tab takes all of it', async () => {
  await at.type('u');
  await at.ghost('rn sum(numbers) / len(numbers)');
  await at.picture('2-ghost-text');
  await at.press('Tab');
  await at.noGhost();
  await at.saved('average.py', `${AVERAGE}    return sum(numbers) / len(numbers)`);
  await eventually(async () => (await at.events()).accepted === 1, 'the acceptance is counted');
});

test('Ctrl+Right takes a word and leaves the rest, which the server hears', async () => {
  await openAtEnd('order.py');
  await at.type('total = ');
  await at.ghost('price * (1 + tax_rate)');
  await at.press('Control+ArrowRight');
  await at.ghost('* (1 + tax_rate)');
  await at.picture('3-word');
  await at.saved('order.py', `${FILES['order.py']}total = price`);
  await eventually(async () => ((await at.events()).partially_accepted ?? 0) >= 1, 'the part is counted');
  await at.press('Escape');
});

test('Escape sends it away and changes nothing', async () => {
  await openAtEnd('area.py');
  await at.type('area = ');
  await at.ghost('width * height');
  await at.press('Escape');
  await at.noGhost();
  await at.saved('area.py', `${FILES['area.py']}area = `);
});

test('several lines are shown and taken', async () => {
  await openAtEnd('status.c');
  await at.type('    ');
  await at.ghost('Not Found');
  await at.press('Tab');
  await at.noGhost();
  const lines = '    case 200:\n      return "OK";\n    case 404:\n      return "Not Found";';
  await eventually(() => server.files.get('status.c') !== undefined, 'the file is there');
  await at.savedAs('status.c', (text) => text.startsWith(SWITCH + lines));
});

test('a file with CRLF keeps it, and the mesh sees none of it', async () => {
  await openAtEnd('greet.py');
  await at.type('    ');
  await at.ghost('print(text)');
  assert.equal(await at.page.locator('[id="status.editor.eol"]').textContent(), 'CRLF');
  await at.picture('4-lines');
  await at.press('Tab');
  await at.noGhost();
  await at.saved('greet.py', `${FILES['greet.py']}    text = f"Hello, {name}"\r\n    print(text)`);
  assert(asked().every((text) => !text.includes('\r')));
});

test('nothing to say: the status bar and the command tell why, and the trace is that of the engine', async () => {
  await openAtEnd('empty.py');
  const before = mesh.engine.requests.length;
  await at.type('x');
  await eventually(() => mesh.engine.requests.length > before, 'the mesh is asked about this file');
  await at.status('dash');
  assert.match(await at.statusText(), /No suggestion \(EMPTY\)/);
  await at.command('Quern: Why No Suggestion?');
  await at.notification('No suggestion (EMPTY). The model had nothing to say here.');
  await at.picture('5-why');
  await at.clearNotifications();
  const opening = at.context.waitForEvent('page');
  await at.command('Quern: Open Trace of Last Completion');
  const tab = await opening;
  const trace = (): string | undefined =>
    server.visited.find((path) => path.startsWith('/trace/'))?.slice('/trace/'.length);
  await eventually(() => trace() !== undefined, 'the trace is opened');
  const traces = mesh.engine.requests.map(({ traceparent }) => traceparent?.split('-')[1]);
  assert(traces.includes(trace()), `${trace()} is not of ${traces}`);
  await tab.close();
  await at.page.bringToFront(); // a page behind another has slow timers
});

test('turned off for a language, for all: not one request', async () => {
  await openAtEnd('private.py');
  await at.command('Quern: Turn Suggestions On or Off for This Language');
  await at.notification('suggestions are off for python');
  await at.clearNotifications();
  await at.status('circle-slash');
  const requests = await gatewayRequests();
  await at.type('secret = ');
  await at.command('Quern: Suggest Now');
  await at.command('Quern: Why No Suggestion?');
  await at.notification('Quern is turned off for python: nothing is sent.');
  await at.picture('6-off');
  await at.clearNotifications();
  await at.command('Quern: Turn Suggestions On or Off');
  await openAtEnd('count.c');
  await at.status('circle-slash');
  await at.type('// ');
  await at.command('Quern: Suggest Now');
  await at.command('Quern: Why No Suggestion?');
  await at.notification('Quern is turned off for all languages: nothing is sent.');
  await at.clearNotifications();
  assert.equal(await gatewayRequests(), requests, 'the gateway was called');
  // What is turned on again asks, and what it asks is the next thing that the mesh hears.
  await at.command('Quern: Turn Suggestions On or Off');
  await at.status('sparkle');
  await at.press('Enter');
  await at.type('int one = ');
  await at.ghost('count + 1;');
  assert(!asked().some((text) => text.includes('secret')));
});

test('a log that holds all that is sent does not hold the key', async () => {
  await at.logLevel('Trace');
  await at.command('Quern: Forget API Key');
  await at.notification('the API key is forgotten');
  await at.clearNotifications();
  await at.command('Quern: Set API Key…');
  await at.input(token);
  await at.notification('the API key is in the secret storage');
  await at.clearNotifications();
  let log = '';
  await eventually(async () => {
    log = await at.log();
    return log.includes(KEY_MARK);
  }, 'the settings are in the log');
  assert.match(log, /Sending response 'workspace\/configuration/);
  assert(!log.includes(token), 'the key is in the log');
  await at.logLevel('Info');
  await at.command('View: Hide Panel');
});

test('with reports off nothing is told of all that was shown and taken', async () => {
  const { accepted = 0, shown = 0 } = await at.events();
  assert(accepted > 0 && shown > 0);
  const lines = (await metrics()).split('\n');
  assert.deepEqual(
    lines.filter((line) => /^quern_suggestion_events_total\{|handler="\/v1\/events"/.test(line)),
    [],
  );
});

test('the walkthrough opens', async () => {
  await at.command('Quern: Get Started');
  await at.page.getByText('Find your mesh').first().waitFor();
});

test('turned off before the editor starts: not one request, until it is turned on', async () => {
  const requests = await gatewayRequests();
  server.defaults['quern.enabled'] = false;
  const off = await Workbench.open(browser, server, 'circle-slash');
  await off.openFile('private.py');
  await off.press('Control+End');
  await off.type('# ');
  await off.command('Quern: Suggest Now');
  await off.notification('Quern is turned off for all languages: nothing is sent.');
  await off.clearNotifications();
  await off.page.keyboard.press('Alt+Backslash');
  await off.status('circle-slash');
  assert.equal(await gatewayRequests(), requests, 'the gateway was called');
  await off.command('Quern: Turn Suggestions On or Off');
  await off.status('sparkle');
  await off.press('Enter');
  await off.type('on = ');
  await off.command('Quern: Suggest Now'); // what is typed may still have been dropped with the old settings
  await off.status('warning'); // this one has no key
  assert((await gatewayRequests()) > requests);
  await off.close();
});

test('a mesh that goes away is told, and the editor goes on', async () => {
  await openAtEnd('count.c');
  await mesh.gateway.close();
  await at.press('Enter');
  await at.type('int more');
  await at.status('warning');
  assert.match(await at.statusText(), /OFFLINE/);
});

async function metrics(): Promise<string> {
  return (await fetch(`${mesh.url}/metrics`)).text();
}

/** All that the gateway was asked over HTTP, beside the question itself. */
async function gatewayRequests(): Promise<number> {
  const lines = (await metrics()).split('\n').filter((line) => /^quern_gateway_http_requests_total\{/.test(line));
  const counted = lines.filter((line) => !line.includes('handler="/metrics"'));
  assert(counted.length > 0, 'the gateway counts its requests');
  return counted.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
