/** VS Code's API as a value that is handed in: the entries import it, tests hand in a stub. Nothing else here loads it. */
export type Api = typeof import('vscode');

export const SECTION = 'quern';
