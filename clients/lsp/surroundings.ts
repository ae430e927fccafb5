/** What stands around the open documents: folders, files beside them, what they import. Where there are no files, little. */
import type { Documents } from './core/documents.ts';
import type { ContextChunk } from './core/infill-source.ts';

export type FileName = { path: string; repository: string };

export type Surroundings = {
  setFolders(folders: readonly { uri: string; name: string }[]): void;
  /** How a file is named to the mesh; null: nothing of it may be sent. */
  describe(uri: string): FileName | null;
  /** The path to name a file by beside another's prompt; null where it may not stand there. */
  pathBeside(uri: string): Promise<string | null>;
  /** Signatures of what a document imports, as far as they are known by now. */
  declarationsBeside(uri: string): readonly ContextChunk[];
  /** A file was saved. */
  saved(): void;
  /** Rules about which files may be sent may have changed. */
  reset(): void;
  close(): void;
};

export type OpenSurroundings = (documents: Documents) => Surroundings;
