/** The commands. Each says what it did, where nothing else on the screen does. */
import type { Disposable, SecretStorage } from 'vscode';
import { type Api, SECTION } from './api.ts';
import { askForKey, forgetKey } from './api-key.ts';
import { explain, type OutcomeBook } from './outcome.ts';
import { completesIn, isEnabled, toggle, toggleLanguage } from './settings.ts';

export type CommandParts = {
  api: Api;
  secrets: SecretStorage;
  outcomes: OutcomeBook;
  diagnostics: () => Promise<string>;
  extensionId: string;
};

const DEFAULT_TRACE_URL = 'http://127.0.0.1:16686/trace/{traceId}';

export function registerCommands(parts: CommandParts): Disposable[] {
  const { api, secrets } = parts;
  const all: Record<string, () => unknown> = {
    'quern.toggle': () => toggle(api),
    'quern.toggleLanguage': () => toggleHere(api),
    'quern.trigger': () => api.commands.executeCommand('editor.action.inlineSuggest.trigger'),
    'quern.why': () => why(parts),
    'quern.openTrace': () => openTrace(parts),
    'quern.copyDiagnostics': () => copyDiagnostics(parts),
    'quern.setApiKey': () => askForKey(api, secrets),
    'quern.forgetApiKey': () => forgetKey(secrets),
    'quern.menu': () => menu(api),
    'quern.openWalkthrough': () =>
      api.commands.executeCommand('workbench.action.openWalkthrough', `${parts.extensionId}#start`, false),
  };
  return Object.entries(all).map(([name, run]) => api.commands.registerCommand(name, run));
}

async function toggleHere(api: Api): Promise<void> {
  const languageId = api.window.activeTextEditor?.document.languageId;
  if (languageId === undefined) {
    await api.window.showInformationMessage('Quern: open a file of the language first.');
    return;
  }
  const on = await toggleLanguage(api, languageId);
  await api.window.showInformationMessage(`Quern: suggestions are ${on ? 'on' : 'off'} for ${languageId}.`);
}

async function why(parts: CommandParts): Promise<void> {
  const { api, outcomes } = parts;
  const { last } = outcomes;
  const languageId = api.window.activeTextEditor?.document.languageId;
  if (languageId !== undefined && !completesIn(api, languageId)) {
    const turnOn = 'Turn On';
    const what = isEnabled(api) ? `for ${languageId}` : 'for all languages';
    const chosen = await api.window.showInformationMessage(`Quern is turned off ${what}: nothing is sent.`, turnOn);
    if (chosen === turnOn) await (isEnabled(api) ? toggleLanguage(api, languageId) : toggle(api));
    return;
  }
  if (last === null) {
    await api.window.showInformationMessage(
      'Quern was not asked for a suggestion yet: type, or run "Quern: Suggest Now".',
    );
    return;
  }
  const trace = last.traceId === '' ? [] : ['Open Trace'];
  const key = last.reason === 'UNAUTHENTICATED' ? ['Set API Key'] : [];
  const settings = last.reason === null ? [] : ['Settings'];
  const text = last.reason === null ? explain(last) : `No suggestion (${last.reason}). ${explain(last)}`;
  const chosen = await api.window.showInformationMessage(text, ...key, ...trace, ...settings);
  if (chosen === 'Open Trace') await openTrace(parts);
  else if (chosen === 'Set API Key') await askForKey(api, parts.secrets);
  else if (chosen === 'Settings') await openSettings(api);
}

const openSettings = (api: Api): Thenable<unknown> =>
  api.commands.executeCommand('workbench.action.openSettings', '@ext:quern.quern');

async function openTrace({ api, outcomes }: CommandParts): Promise<void> {
  const traceId = outcomes.lastTraceId;
  if (traceId === null) {
    await api.window.showInformationMessage('Quern: no completion was sent to the mesh yet, so there is no trace.');
    return;
  }
  const pattern = api.workspace.getConfiguration(SECTION).get('traceUrl', '') || DEFAULT_TRACE_URL;
  if (!/^https?:\/\//.test(pattern) || !pattern.includes('{traceId}')) {
    const expected = 'http://host/trace/{traceId}';
    await api.window.showErrorMessage(`Quern: quern.traceUrl: expected ${expected}, got ${pattern}`);
    return;
  }
  await api.env.openExternal(api.Uri.parse(pattern.replaceAll('{traceId}', traceId)));
}

async function copyDiagnostics({ api, diagnostics }: CommandParts): Promise<void> {
  await api.env.clipboard.writeText(await diagnostics());
  await api.window.showInformationMessage(
    'Quern: diagnostics are in the clipboard. They hold no source text and no key.',
  );
}

async function menu(api: Api): Promise<void> {
  const languageId = api.window.activeTextEditor?.document.languageId;
  const onOff = (on: boolean): string => (on ? '$(circle-slash) Turn suggestions off' : '$(check) Turn suggestions on');
  const here = languageId === undefined ? [] : [{ languageId, on: completesIn(api, languageId) }];
  const entries = [
    { label: '$(question) Why no suggestion?', command: 'quern.why' },
    { label: '$(sparkle) Suggest now', command: 'quern.trigger' },
    { label: onOff(isEnabled(api)), command: 'quern.toggle' },
    ...here.map(({ languageId: name, on }) => ({ label: `${onOff(on)} for ${name}`, command: 'quern.toggleLanguage' })),
    { label: '$(graph) Open trace of last completion', command: 'quern.openTrace' },
    { label: '$(clippy) Copy diagnostics', command: 'quern.copyDiagnostics' },
    { label: '$(key) Set API key…', command: 'quern.setApiKey' },
    { label: '$(book) Get started', command: 'quern.openWalkthrough' },
  ];
  const chosen = await api.window.showQuickPick(entries, {
    title: 'Quern',
    placeHolder: 'Code completion by your own mesh',
  });
  if (chosen) await api.commands.executeCommand(chosen.command);
}
