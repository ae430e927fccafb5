import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CancellationToken } from 'vscode';
import type { LanguageClientOptions } from 'vscode-languageclient';
import { startExtension } from '../../../../clients/vscode/ui/extension.ts';
import { KEY_MARK } from '../../../../clients/vscode/ui/key-in-transit.ts';
import type { Outcome } from '../../../../clients/vscode/ui/outcome.ts';
import { PULL_MS_MAX, SettingsPulls } from '../../../../clients/vscode/ui/settings-pulls.ts';
import { StatusBar } from '../../../../clients/vscode/ui/status-bar.ts';
import { at, stubApi, stubClient, stubContext, stubDocument } from './support/stub-api.ts';

const outcome = (over: Partial<Outcome>): Outcome => ({
  ...{ uri: 'file:///project/secret-name.py', invoked: false, id: 'id-1', reason: null, rule: null },
  ...{ from: 'stream', partial: false, traceId: 'a'.repeat(32), count: 1, ...over },
});

async function started(defaults: Record<string, unknown> = {}, start?: () => Promise<void>) {
  const stub = stubApi(defaults);
  const context = stubContext();
  let options: LanguageClientOptions = {};
  const pulled: Promise<unknown>[] = [];
  const pull = (): Promise<unknown> => {
    const configuration = options.middleware?.workspace?.configuration;
    const answer = Promise.resolve(configuration?.({ items: [{ section: 'quern' }] }, token, async () => []));
    pulled.push(answer);
    return answer;
  };
  /** The server has the settings that it asked for, and the extension has seen that. */
  const settled = async (): Promise<void> => {
    await Promise.all(pulled);
    await new Promise((resolve) => setTimeout(resolve, 1)); // behind the extension's own, which is as short
  };
  const { client, sent, hear, states, logShown } = stubClient(pull, start);
  const open = (given: LanguageClientOptions) => {
    options = given;
    return client;
  };
  const backend = { name: 'stub', without: ['gatewayUrl'], open };
  const extension = startExtension(stub.api, context, backend);
  await extension.ready;
  await settled();
  const end = (over: Partial<Outcome>): void => hear.get('quern/outcome')?.(outcome(over) as never);
  type Provide = NonNullable<NonNullable<LanguageClientOptions['middleware']>['provideInlineCompletionItems']>;
  const provide = options.middleware?.provideInlineCompletionItems as Provide;
  return { stub, context, sent, options, end, provide, pull, settled, states, logShown };
}

/** States of a language client. */
const [STOPPED, RUNNING, STARTING] = [1, 2, 3];

const token = { isCancellationRequested: false } as CancellationToken;
const automatic = { triggerKind: 1, selectedCompletionInfo: undefined };

test('the status bar follows the outcomes, and passes over what was typed away', async () => {
  const { stub, end } = await started();
  const { item } = stub;
  assert.match(item.text, /sparkle/);
  end({ reason: 'FILTERED', rule: 'overlap', count: 0 });
  assert.match(item.text, /dash/);
  assert.equal(item.tooltip, "No suggestion (FILTERED). The model's text was of no use here (rule overlap).");
  end({ reason: 'DEBOUNCED', count: 0 });
  assert.match(item.text, /dash/, 'typing on says nothing new');
  end({ reason: 'OFFLINE', count: 0 });
  assert.match(item.text, /warning/);
  assert.equal((item.backgroundColor as unknown as { id: string }).id, 'statusBarItem.warningBackground');
  end({});
  assert.match(item.text, /sparkle/);
  assert.equal(item.backgroundColor, undefined);
});

test('it thinks while a request is on its way', async () => {
  const { stub, provide } = await started();
  let answer: (items: []) => void = () => undefined;
  const next = () =>
    new Promise<[]>((resolve) => {
      answer = resolve;
    });
  const provided = provide(stubDocument('python', 'x = '), at(0, 4), automatic, token, next);
  assert.match(stub.item.text, /loading~spin/);
  answer([]);
  await provided;
  assert.match(stub.item.text, /sparkle/);
});

test('turned off, for all or for a language, nothing goes to the server', async () => {
  const { stub, provide, pull, settled } = await started({ languages: { '*': true, markdown: false } });
  let asked = 0;
  const next = () => {
    asked += 1;
    return [];
  };
  await provide(stubDocument('markdown', 'x = '), at(0, 4), automatic, token, next);
  assert.equal(asked, 0);
  await provide(stubDocument('python', 'x = '), at(0, 4), automatic, token, next);
  assert.equal(asked, 1);
  await stub.run('quern.toggle');
  assert.equal(stub.settings.enabled, false);
  assert.match(stub.item.text, /circle-slash/);
  await provide(stubDocument('python', 'x = '), at(0, 4), automatic, token, next);
  assert.equal(asked, 1);
  await stub.run('quern.toggle');
  assert.match(stub.item.text, /loading~spin/, 'the server does not know yet');
  await pull();
  await settled();
  assert.match(stub.item.text, /sparkle/);
});

test('one language is turned off and on, and turned on where all was off', async () => {
  const { stub } = await started();
  stub.openIn('python');
  await stub.run('quern.toggleLanguage');
  assert.deepEqual(stub.settings.languages, { '*': true, python: false });
  assert.match(String(stub.item.tooltip), /off: for python/);
  await stub.run('quern.toggle');
  await stub.run('quern.toggleLanguage');
  assert.deepEqual([stub.settings.enabled, stub.settings.languages], [true, { '*': true, python: true }]);
  stub.openIn(null);
  await stub.run('quern.toggleLanguage');
  assert.match(stub.messages.at(-1) ?? '', /open a file/);
});

test('the key lives in the secret storage: a mark stands for it in what is logged, diagnostics know nothing of it', async () => {
  const { stub, context, sent, options, end } = await started({ gateway: 'mesh.private.example:50051' });
  const pull = async (): Promise<Record<string, unknown>> => {
    const configuration = options.middleware?.workspace?.configuration;
    assert(configuration);
    const pulled = await configuration({ items: [{ section: 'quern' }] }, token, async () => []);
    const [first] = pulled as Record<string, unknown>[];
    return first ?? {};
  };
  assert.equal((await pull()).apiKey, '');
  sent.length = 0;
  stub.answers.push('  qk-very-secret ');
  await stub.run('quern.setApiKey');
  assert.match(stub.messages.at(-1) ?? '', /the API key is in the secret storage/);
  assert.deepEqual([...context.stored.values()], ['qk-very-secret']);
  assert.deepEqual(sent, [['workspace/didChangeConfiguration', { settings: null }]]);
  assert.deepEqual(await pull(), { ...stub.settings, apiKey: KEY_MARK });
  assert(!JSON.stringify(options.initializationOptions()).includes('secret'));
  end({ reason: 'EMPTY', count: 0 });
  await stub.run('quern.copyDiagnostics');
  assert.match(stub.clipboard, /EMPTY: typed, from stream, 0 shown, trace a{32}/);
  assert.match(stub.clipboard, /API key stored.*\n.*"gateway":"\(set\)"/);
  assert.match(stub.clipboard, /extension 1\.2\.3, Code 1\.91\.1, stub/);
  assert.doesNotMatch(stub.clipboard, /very-secret|secret-name|private\.example/);
  stub.answers.push('  ');
  await stub.run('quern.setApiKey');
  assert.match(stub.messages.at(-1) ?? '', /nothing was entered/);
  const told = stub.messages.length;
  await stub.run('quern.setApiKey'); // Esc
  assert.equal(stub.messages.length, told);
  assert.deepEqual([...context.stored.values()], ['qk-very-secret']);
  await stub.run('quern.forgetApiKey');
  assert.match(stub.messages.at(-1) ?? '', /is forgotten/);
  assert.equal((await pull()).apiKey, '');
  await stub.run('quern.forgetApiKey');
  assert.match(stub.messages.at(-1) ?? '', /no API key to forget/);
});

test('the server is told what it has a use for, as it is when the server starts', async () => {
  const own = { traceUrl: 'http://traces', serverCommand: ['x'], trace: { server: 'verbose' } };
  const { stub, options } = await started({ ...own, gatewayUrl: 'http://of.the.other:1', maxTokens: 9 });
  const initial = () => options.initializationOptions() as Record<string, unknown>;
  assert.deepEqual(initial(), {
    ...{ enabled: true, languages: { '*': true }, maxTokens: 9, outcomes: true },
  });
  await stub.run('quern.toggle');
  assert.equal(initial().enabled, false, 'a server that is started again begins turned off');
});

test('where the workspace has its own value, that one is turned', async () => {
  const { stub } = await started();
  stub.openIn('python');
  stub.workspaceSettings.enabled = true;
  await stub.run('quern.toggle');
  assert.deepEqual([stub.settings.enabled, stub.workspaceSettings.enabled], [false, false]);
  await stub.run('quern.toggle');
  stub.workspaceSettings.languages = { python: true };
  await stub.run('quern.toggleLanguage');
  assert.deepEqual(stub.workspaceSettings.languages, { python: false });
});

test('a server that ends is told, with its log, and one that comes back is ready', async () => {
  const { stub, states, logShown, end } = await started();
  end({ reason: 'EMPTY', count: 0 });
  states.fire({ oldState: RUNNING, newState: STOPPED });
  assert.match(stub.item.text, /warning/);
  stub.answers.push('Show Log');
  await stub.run('quern.why');
  assert.match(stub.messages.at(-1) ?? '', /language server ended/);
  assert.equal(logShown(), 1);
  states.fire({ oldState: STOPPED, newState: STARTING });
  states.fire({ oldState: STARTING, newState: RUNNING });
  assert.match(stub.item.text, /dash/);
});

test('the status bar thinks until new settings are asked for, but not for ever', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { item, api } = stubApi();
  const status = new StatusBar(api);
  status.started();
  const pulls = new SettingsPulls(status);
  pulls.expect();
  t.mock.timers.tick(PULL_MS_MAX / 2);
  pulls.expect();
  t.mock.timers.tick(PULL_MS_MAX - 1);
  assert.match(item.text, /loading~spin/, 'the second is still awaited');
  t.mock.timers.tick(1);
  assert.match(item.text, /sparkle/, 'a server that never asks is not waited for');
  pulls.expect();
  pulls.expect();
  assert.equal(await pulls.answer(async () => 7), 7);
  assert.match(item.text, /loading~spin/, 'the answer is not with the server yet');
  t.mock.timers.tick(0);
  assert.match(item.text, /sparkle/);
  t.mock.timers.tick(PULL_MS_MAX);
  assert.equal(status.state.kind, 'ready');
});

test('Suggest Now says so where nobody would be asked', async () => {
  const { stub } = await started();
  stub.openIn('python');
  stub.inlineSuggest = false;
  stub.answers.push('Open Setting');
  await stub.run('quern.trigger');
  assert.match(stub.messages.at(-1) ?? '', /VS Code's own setting editor\.inlineSuggest\.enabled is off here/);
  assert.deepEqual(stub.ran, ['workbench.action.openSettings editor.inlineSuggest.enabled']);
  stub.inlineSuggest = true;
  Object.assign(stub.settings, { enabled: false, languages: { python: false } });
  stub.answers.push('Turn On');
  await stub.run('quern.trigger');
  assert.match(stub.messages.at(-1) ?? '', /turned off for all languages: nothing is sent/);
  assert.deepEqual([stub.settings.enabled, stub.settings.languages], [true, { python: true }]);
  stub.ran.length = 0;
  await stub.run('quern.trigger');
  assert.deepEqual(stub.ran, ['editor.action.inlineSuggest.trigger']);
});

test('why: turned off, not asked yet, a reason with its remedy, or nothing wrong', async () => {
  const { stub, end } = await started();
  for (const command of ['quern.why', 'quern.trigger']) {
    await stub.run(command);
    assert.match(stub.messages.at(-1) ?? '', /open a file first/);
  }
  stub.openIn('python');
  await stub.run('quern.why');
  assert.match(stub.messages.at(-1) ?? '', /not asked for a suggestion yet/);
  end({ reason: 'UNAUTHENTICATED', count: 0 });
  stub.answers.push('Open Trace');
  await stub.run('quern.why');
  assert.match(stub.messages.at(-1) ?? '', /^No suggestion \(UNAUTHENTICATED\).*Set API Key/);
  assert.deepEqual(stub.opened, [`http://127.0.0.1:16686/trace/${'a'.repeat(32)}`]);
  end({ from: 'cache' });
  await stub.run('quern.why');
  assert.equal(stub.messages.at(-1), 'The last request had a suggestion from the cache.');
  stub.openIn('python');
  stub.settings.enabled = false;
  stub.answers.push('Turn On');
  await stub.run('quern.why');
  assert.match(stub.messages.at(-1) ?? '', /turned off for all languages/);
  assert.equal(stub.settings.enabled, true);
});

test('the trace: by the pattern of the settings, which must be one; none before the first request', async () => {
  const { stub, end } = await started({ traceUrl: 'javascript:alert(1)' });
  await stub.run('quern.openTrace');
  assert.match(stub.messages.at(-1) ?? '', /no trace/);
  end({});
  await stub.run('quern.openTrace');
  assert.match(stub.messages.at(-1) ?? '', /expected http:\/\/host\/trace\/\{traceId\}/);
  stub.settings.traceUrl = 'https://traces.example/t/{traceId}?x';
  await stub.run('quern.openTrace');
  assert.deepEqual(stub.opened, [`https://traces.example/t/${'a'.repeat(32)}?x`]);
});

test('the menu runs what is chosen', async () => {
  const { stub } = await started();
  stub.openIn('python');
  stub.answers.push('quern.trigger');
  await stub.run('quern.menu');
  assert.deepEqual(stub.ran, ['quern.trigger', 'editor.action.inlineSuggest.trigger']);
});

test('a server that does not start is told, and the editor goes on', async () => {
  const { stub } = await started({}, () => Promise.reject(new Error('no such program')));
  assert.match(stub.item.text, /warning/);
  assert.match(String(stub.item.tooltip), /no such program/);
});

test('a suggestion is told as shown, taken in part, and sent away', async () => {
  const { stub, sent, provide } = await started();
  sent.length = 0;
  const document = stubDocument('python', 'x = ');
  const item = { insertText: 'price * 2', command: { title: '', command: 'quern.accepted', arguments: ['id-1', 0] } };
  await provide(document, at(0, 4), automatic, token, () => [item]);
  const change = { range: { isEmpty: true, start: at(0, 4) }, text: 'price' };
  stub.edited.fire({ document, contentChanges: [change], reason: undefined });
  stub.api.window.activeTextEditor = { document } as never;
  stub.selected.fire({
    textEditor: stub.api.window.activeTextEditor,
    selections: [{ isEmpty: true, active: at(0, 9) }],
  });
  stub.selected.fire({
    textEditor: stub.api.window.activeTextEditor,
    selections: [{ isEmpty: true, active: at(3, 0) }],
  });
  assert.deepEqual(
    sent.map(([, note]) => note),
    [
      { kind: 'shown', id: 'id-1', index: 0 },
      { kind: 'partially_accepted', id: 'id-1', index: 0, chars: 5 },
      { kind: 'dismissed', id: 'id-1', index: 0 },
    ],
  );
});

test('nothing that happens holds the extension host for 5 ms, however large the file and the paste', async () => {
  const { stub, provide, end } = await started();
  const document = stubDocument('python', 'x'.repeat(4 * 1024 * 1024));
  const item = {
    insertText: 'y'.repeat(2_000),
    command: { title: '', command: 'quern.accepted', arguments: ['id-1', 0] },
  };
  const edit = (text: string, character: number): void => {
    const contentChanges = [{ range: { isEmpty: true, start: at(0, character) }, text }];
    stub.edited.fire({ document, contentChanges, reason: undefined });
  };
  const textEditor = { document, selection: { active: at(0, 4) } };
  stub.api.window.activeTextEditor = textEditor as never;
  const paste = 'z\r\n'.repeat(1024 * 1024);
  const happenings: Record<string, () => unknown> = {
    request: () => provide(document, at(0, 4), automatic, token, () => [item]),
    'letter typed along': () => edit('y', 4),
    'other letter': () => edit('z', 5),
    'request again': () => provide(document, at(0, 4), automatic, token, () => [item]),
    'large paste': () => edit(paste, 4),
    'cursor moved': () => stub.selected.fire({ textEditor, selections: [{ isEmpty: true, active: at(3, 0) }] }),
    'other editor': () => stub.activated.fire(textEditor),
    'settings changed': () => stub.api.workspace.getConfiguration().update('maxTokens', 64),
    outcome: () => end({ reason: 'EMPTY', count: 0 }),
    diagnostics: () => stub.run('quern.copyDiagnostics'),
  };
  const taken = new Map(Object.keys(happenings).map((name) => [name, [] as number[]]));
  for (let round = 0; round < 51; round++) {
    for (const [name, happen] of Object.entries(happenings)) {
      const before = process.threadCpuUsage();
      await happen();
      const { user, system } = process.threadCpuUsage(before);
      taken.get(name)?.push((user + system) / 1_000);
    }
  }
  // The middle one, of this thread's own time: neither other programs nor a round of garbage collection count.
  for (const [name, ms] of taken) {
    const middle = ms.toSorted((a, b) => a - b)[ms.length >> 1] ?? Number.NaN;
    assert(middle < 5, `${name}: ${middle} ms of CPU time`);
  }
});
