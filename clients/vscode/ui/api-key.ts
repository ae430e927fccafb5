/** The mesh's API key in VS Code's secret storage: never in settings, never in diagnostics. */
import type { SecretStorage } from 'vscode';
import type { Api } from './api.ts';

const NAME = 'quern.apiKey';

/** "" = none: the environment's QUERN_API_KEY then holds, where there is an environment. */
export async function storedKey(secrets: SecretStorage): Promise<string> {
  return (await secrets.get(NAME)) ?? '';
}

/** Asks for a key, stores it and says so. */
export async function askForKey(api: Api, secrets: SecretStorage): Promise<void> {
  const given = await api.window.showInputBox({
    title: 'Quern: API key',
    prompt: 'As `quern keys create` printed it. It is kept in the secret storage.',
    password: true,
    ignoreFocusOut: true,
    validateInput: (text) => (/\s/.test(text.trim()) ? 'Expected a key without blanks in it' : null),
  });
  if (given === undefined) return; // Esc
  const key = given.trim();
  if (key === '') {
    await api.window.showInformationMessage(
      'Quern: nothing was entered, so nothing changed. "Quern: Forget API Key" removes a key.',
    );
    return;
  }
  await secrets.store(NAME, key);
  await api.window.showInformationMessage('Quern: the API key is in the secret storage, and used from now on.');
}

export async function forgetKey(api: Api, secrets: SecretStorage): Promise<void> {
  const had = (await storedKey(secrets)) !== '';
  await secrets.delete(NAME);
  await api.window.showInformationMessage(
    had ? 'Quern: the API key is forgotten.' : 'Quern: there was no API key to forget.',
  );
}

/** Calls `hear` after the key was set, changed or removed, in whichever window. */
export function onKeyChange(secrets: SecretStorage, hear: () => void) {
  return secrets.onDidChange(({ key }) => {
    if (key === NAME) hear();
  });
}
