/** For tests in TypeScript. Bundles the extension into `folder`, which is emptied before, and returns it. */
export function buildExtension(folder: string): Promise<string>;
