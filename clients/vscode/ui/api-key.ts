/** The mesh's API key in VS Code's secret storage: never in settings, never in diagnostics. */
import type { SecretStorage } from 'vscode';
import type { Api } from './api.ts';

const NAME = 'quern.apiKey';

/** "" = none: the environment's QUERN_API_KEY then holds, where there is an environment. */
export async function storedKey(secrets: SecretStorage): Promise<string> {
  return (await secrets.get(NAME)) ?? '';
}

/** Asks for a key and stores it. False: the user changed their mind. */
export async function askForKey(api: Api, secrets: SecretStorage): Promise<boolean> {
  const given = await api.window.showInputBox({
    title: 'Quern: API key',
    prompt: 'As `quern keys create` printed it. It is kept in the secret storage.',
    password: true,
    ignoreFocusOut: true,
    validateInput: (text) => (/\s/.test(text.trim()) ? 'Expected a key without blanks in it' : null),
  });
  const key = given?.trim() ?? '';
  if (key === '') return false;
  await secrets.store(NAME, key);
  return true;
}

export const forgetKey = (secrets: SecretStorage): Thenable<void> => secrets.delete(NAME);

/** Calls `hear` after the key was set, changed or removed, in whichever window. */
export function onKeyChange(secrets: SecretStorage, hear: () => void) {
  return secrets.onDidChange(({ key }) => {
    if (key === NAME) hear();
  });
}
