/** The commands. Each says what it did, where nothing else on the screen does. */
import type { Disposable, SecretStorage } from 'vscode';
import { type Api, SECTION } from './api.ts';
import { askForKey, forgetKey } from './api-key.ts';
import { explain, type OutcomeBook } from './outcome.ts';
import { completesIn, editorAsks, isEnabled, toggle, toggleLanguage, whyOff } from './settings.ts';
import type { State } from './status-bar.ts';

export type CommandParts = {
  api: Api;
  secrets: SecretStorage;
  outcomes: OutcomeBook;
  state: () => State;
  showLog: () => void;
  diagnostics: () => Promise<string>;
  extensionId: string;
};

const NO_FILE = 'Quern: open a file first; suggestions stand behind the cursor.';
const DEFAULT_TRACE_URL = 'http://127.0.0.1:16686/trace/{traceId}';

export function registerCommands(parts: CommandParts): Disposable[] {
  const { api, secrets } = parts;
  const all: Record<string, () => unknown> = {
    'quern.toggle': () => toggle(api),
    'quern.toggleLanguage': () => toggleHere(api),
    'quern.trigger': () => trigger(api),
    'quern.why': () => why(parts),
    'quern.openTrace': () => openTrace(parts),
    'quern.copyDiagnostics': () => copyDiagnostics(parts),
    'quern.showLog': () => parts.showLog(),
    'quern.openSettings': () =>
      api.commands.executeCommand('workbench.action.openSettings', `@ext:${parts.extensionId}`),
    'quern.setApiKey': () => askForKey(api, secrets),
    'quern.forgetApiKey': () => forgetKey(api, secrets),
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

/** What asks nobody says so: a key that does nothing would look broken. */
async function trigger(api: Api): Promise<void> {
  if (api.window.activeTextEditor === undefined) await api.window.showInformationMessage(NO_FILE);
  else if (!(await saidThatOff(api))) await api.commands.executeCommand('editor.action.inlineSuggest.trigger');
}

/** False: it is on here, and nothing was said. */
async function saidThatOff(api: Api): Promise<boolean> {
  const off = whyOff(api);
  const languageId = api.window.activeTextEditor?.document.languageId;
  if (off !== null) {
    const turnOn = 'Turn On';
    const chosen = await api.window.showInformationMessage(`Quern is turned off ${off}: nothing is sent.`, turnOn);
    if (chosen === turnOn) await (languageId === undefined ? toggle(api) : turnOnHere(api, languageId));
    return true;
  }
  if (editorAsks(api)) return false;
  const name = 'editor.inlineSuggest.enabled';
  const open = 'Open Setting';
  const text = `VS Code's own setting ${name} is off here: it asks nobody for suggestions.`;
  if ((await api.window.showInformationMessage(text, open)) === open)
    await api.commands.executeCommand('workbench.action.openSettings', name);
  return true;
}

/** For all first, and for the language where that was not all. */
async function turnOnHere(api: Api, languageId: string): Promise<void> {
  if (!isEnabled(api)) await toggle(api);
  if (!completesIn(api, languageId)) await toggleLanguage(api, languageId);
}

async function why(parts: CommandParts): Promise<void> {
  const { api, outcomes } = parts;
  if (await saidThatOff(api)) return;
  const { last } = outcomes;
  const state = parts.state();
  if (state.kind === 'failing' && state.code === 'SERVER') {
    await offer(api, `No suggestions. ${state.why}`, [['Show Log', 'quern.showLog']]);
    return;
  }
  if (last === null) {
    const text = 'Quern was not asked for a suggestion yet: type, or run "Quern: Suggest Now".';
    if (api.window.activeTextEditor === undefined) await api.window.showInformationMessage(NO_FILE);
    else await offer(api, text, [['Suggest Now', 'quern.trigger']]);
    return;
  }
  const { reason, traceId } = last;
  const text = reason === null ? explain(last) : `No suggestion (${reason}). ${explain(last)}`;
  const failed = reason === 'FAILED' || reason === 'OFFLINE';
  await offer(api, text, [
    ...(reason === 'UNAUTHENTICATED' ? [['Set API Key', 'quern.setApiKey'] as const] : []),
    ...(failed ? [['Show Log', 'quern.showLog'] as const] : []),
    ...(traceId === '' ? [] : [['Open Trace', 'quern.openTrace'] as const]),
    ...(reason === null ? [] : [['Settings', 'quern.openSettings'] as const]),
  ]);
}

/** A message with buttons that run commands. */
async function offer(api: Api, text: string, buttons: (readonly [label: string, command: string])[]): Promise<void> {
  const chosen = await api.window.showInformationMessage(text, ...buttons.map(([label]) => label));
  const found = buttons.find(([label]) => label === chosen);
  if (found) await api.commands.executeCommand(found[1]);
}

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
  // What turns all on is enough where all is off.
  const here = languageId === undefined || !isEnabled(api) ? [] : [{ languageId, on: completesIn(api, languageId) }];
  const entries = [
    { label: '$(question) Why no suggestion?', command: 'quern.why' },
    { label: '$(sparkle) Suggest now', command: 'quern.trigger' },
    { label: onOff(isEnabled(api)), command: 'quern.toggle' },
    ...here.map(({ languageId: name, on }) => ({ label: `${onOff(on)} for ${name}`, command: 'quern.toggleLanguage' })),
    { label: '$(graph) Open trace of last completion', command: 'quern.openTrace' },
    { label: '$(clippy) Copy diagnostics', command: 'quern.copyDiagnostics' },
    { label: '$(key) Set API key…', command: 'quern.setApiKey' },
    { label: '$(gear) Settings', command: 'quern.openSettings' },
    { label: '$(output) Show log', command: 'quern.showLog' },
    { label: '$(book) Get started', command: 'quern.openWalkthrough' },
  ];
  const chosen = await api.window.showQuickPick(entries, {
    title: 'Quern',
    placeHolder: 'Code completion by your own mesh',
  });
  if (chosen) await api.commands.executeCommand(chosen.command);
}
