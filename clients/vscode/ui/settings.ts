/** The settings as VS Code has them, and what is written into them. */
import { languageEnabled, readSettings } from '../../lsp/core/settings.ts';
import { type Api, SECTION } from './api.ts';

/** Of the extension itself: the language server has no use for them. */
const OWN: readonly string[] = ['traceUrl', 'serverCommand', 'trace'];

/** Whether anything may be asked for a document of this language. */
export function completesIn(api: Api, languageId: string): boolean {
  const { settings } = readSettings(serverSettings(api, []));
  return languageEnabled(settings, languageId);
}

export const isEnabled = (api: Api): boolean => api.workspace.getConfiguration(SECTION).get('enabled', true);

/** VS Code's own switch, which may differ by language: with it off nobody is asked for inline suggestions. */
export const editorAsks = (api: Api): boolean =>
  api.workspace.getConfiguration('editor', api.window.activeTextEditor?.document).get('inlineSuggest.enabled', true);

/** Null where suggestions are on; otherwise what they are off for, to go behind "off". */
export function whyOff(api: Api): string | null {
  if (!isEnabled(api)) return 'for all languages';
  const languageId = api.window.activeTextEditor?.document.languageId;
  return languageId !== undefined && !completesIn(api, languageId) ? `for ${languageId}` : null;
}

/** The section as a plain object, without anything secret. */
export function plainSettings(api: Api): Record<string, unknown> {
  return JSON.parse(JSON.stringify(api.workspace.getConfiguration(SECTION))) as Record<string, unknown>;
}

/** What the language server is told. `without`: what this one does not know. */
export function serverSettings(api: Api, without: readonly string[]): Record<string, unknown> {
  const kept = Object.entries(plainSettings(api)).filter(([name]) => !OWN.includes(name) && !without.includes(name));
  return Object.fromEntries(kept);
}

export async function toggle(api: Api): Promise<boolean> {
  const wanted = !isEnabled(api);
  await write(api, 'enabled', wanted);
  return wanted;
}

/** For one language; where all is off, that is turned on again too. */
export async function toggleLanguage(api: Api, languageId: string): Promise<boolean> {
  const wanted = !completesIn(api, languageId);
  const { workspaceValue, globalValue } =
    api.workspace.getConfiguration(SECTION).inspect<Record<string, boolean>>('languages') ?? {};
  // VS Code lays the workspace's over the user's, language by language.
  const inWorkspace = workspaceValue !== undefined && Object.hasOwn(workspaceValue, languageId);
  const languages = { ...(inWorkspace ? workspaceValue : globalValue), [languageId]: wanted };
  const { Workspace, Global } = api.ConfigurationTarget;
  await api.workspace.getConfiguration(SECTION).update('languages', languages, inWorkspace ? Workspace : Global);
  if (wanted && !isEnabled(api)) await write(api, 'enabled', true);
  return wanted;
}

/** For the user, but where the workspace has a value of its own that one: the user's would change nothing. */
async function write(api: Api, name: string, value: unknown): Promise<void> {
  const configuration = api.workspace.getConfiguration(SECTION);
  const { Workspace, Global } = api.ConfigurationTarget;
  const inWorkspace = configuration.inspect(name)?.workspaceValue !== undefined;
  await configuration.update(name, value, inWorkspace ? Workspace : Global);
}
