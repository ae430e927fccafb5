/** A file system for the workbench under test: memfs: files lie in the test's memory, behind the page's own server. */
import * as vscode from 'vscode';

declare const FILES_URL: string;

async function ask(method: string, uri: vscode.Uri, body?: Uint8Array): Promise<Response> {
  const content = body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> };
  const response = await fetch(`${FILES_URL}${uri.path}`, { method, ...content });
  if (response.status === 404) throw vscode.FileSystemError.FileNotFound(uri);
  return response;
}

const provider: vscode.FileSystemProvider = {
  onDidChangeFile: new vscode.EventEmitter<vscode.FileChangeEvent[]>().event,
  watch: () => new vscode.Disposable(() => undefined),
  async stat(uri) {
    const type =
      (await ask('HEAD', uri)).headers.get('x-type') === 'folder' ? vscode.FileType.Directory : vscode.FileType.File;
    const size = type === vscode.FileType.File ? (await provider.readFile(uri)).length : 0;
    return { type, ctime: 0, mtime: 0, size };
  },
  async readDirectory(uri) {
    const names = (await (await ask('GET', uri)).json()) as string[];
    return names.map((name): [string, vscode.FileType] => [name, vscode.FileType.File]);
  },
  async readFile(uri) {
    return new Uint8Array(await (await ask('GET', uri)).arrayBuffer());
  },
  async writeFile(uri, content) {
    await ask('PUT', uri, content);
  },
  createDirectory: (uri) => Promise.reject(vscode.FileSystemError.NoPermissions(uri)),
  delete: (uri) => Promise.reject(vscode.FileSystemError.NoPermissions(uri)),
  rename: (uri) => Promise.reject(vscode.FileSystemError.NoPermissions(uri)),
};

export function activate(context: vscode.ExtensionContext): void {
  context.subscriptions.push(vscode.workspace.registerFileSystemProvider('memfs', provider, { isCaseSensitive: true }));
}
