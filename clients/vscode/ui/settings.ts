/** The settings as VS Code has them, and what is written into them. */
import { languageEnabled, readSettings } from '../../lsp/core/settings.ts';
import { type Api, SECTION } from './api.ts';

/** Whether anything may be asked for a document of this language. */
export function completesIn(api: Api, languageId: string): boolean {
  const { settings } = readSettings(plainSettings(api));
  return languageEnabled(settings, languageId);
}

export const isEnabled = (api: Api): boolean => api.workspace.getConfiguration(SECTION).get('enabled', true);

/** The section as a plain object, without anything secret. */
export function plainSettings(api: Api): Record<string, unknown> {
  return JSON.parse(JSON.stringify(api.workspace.getConfiguration(SECTION))) as Record<string, unknown>;
}

export async function toggle(api: Api): Promise<boolean> {
  const wanted = !isEnabled(api);
  await api.workspace.getConfiguration(SECTION).update('enabled', wanted, api.ConfigurationTarget.Global);
  return wanted;
}

/** For one language; where all is off, that is turned on again too. */
export async function toggleLanguage(api: Api, languageId: string): Promise<boolean> {
  const wanted = !completesIn(api, languageId);
  const configuration = api.workspace.getConfiguration(SECTION);
  const languages = { ...configuration.get<Record<string, boolean>>('languages', {}), [languageId]: wanted };
  await configuration.update('languages', languages, api.ConfigurationTarget.Global);
  if (wanted && !isEnabled(api)) await configuration.update('enabled', true, api.ConfigurationTarget.Global);
  return wanted;
}
