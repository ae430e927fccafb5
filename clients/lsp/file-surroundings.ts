/** The surroundings where Node reads files: the workspace's rules, and signatures parsed by a thread. */
import type { Documents } from './core/documents.ts';
import { ImportedDeclarations } from './outline/imported-declarations.ts';
import { Outliner } from './outline/outliner.ts';
import type { Surroundings } from './surroundings.ts';
import { Workspace } from './workspace.ts';

export function openFileSurroundings(documents: Documents): Surroundings {
  const workspace = new Workspace();
  const outliner = new Outliner();
  const pathBeside = (uri: string): Promise<string | null> => workspace.pathBeside(uri);
  const declarations = new ImportedDeclarations({
    ...{ documents, pathFor: pathBeside, roots: () => workspace.roots },
    outline: (languageId, text) => outliner.outline(languageId, text),
  });
  return {
    setFolders(folders) {
      workspace.setFolders(folders);
      declarations.reset();
    },
    describe: (uri) => workspace.describe(uri),
    pathBeside,
    declarationsBeside: (uri) => declarations.beside(uri),
    saved: () => declarations.saved(),
    reset() {
      workspace.reset();
      declarations.reset();
    },
    close: () => void outliner.close(),
  };
}
