/**
 * Signatures of what a file imports from its own workspace, to stand beside its prompts. Made in the background: a request
 * takes what is known, and never waits.
 */
import { readFile, stat } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Documents } from '../core/documents.ts';
import type { ContextChunk } from '../core/infill-source.ts';
import type { Declaration, Import, Outline } from './outline.ts';

/** Imports stand in the beginning of a file. */
const HEAD_CHARS = 16 * 1024;
const DECLARATIONS_MAX = 5;
const DECLARATION_CHARS_MAX = 500;
/** Larger files are not read for their signatures. */
const FILE_BYTES_MAX = 256 * 1024;
/** Files whose outlines, and documents whose chunks, are remembered. */
const REMEMBERED_MAX = 256;

export type ImportedDeclarationsParts = {
  documents: Documents;
  outline: (languageId: string, text: string) => Promise<Outline | null>;
  /** Path to name a file by; null where nothing of it may be used. */
  pathFor: (uri: string) => Promise<string | null>;
  /** Folders of the workspace. */
  roots: () => readonly string[];
};

/** `mark`: the import lines that `chunks` are about. */
type Known = { chunks: readonly ContextChunk[]; mark: string | null; running: boolean };

const LANGUAGES: Readonly<Record<string, string>> = {
  ...{ '.ts': 'typescript', '.mts': 'typescript', '.cts': 'typescript', '.tsx': 'typescriptreact' },
  ...{ '.js': 'javascript', '.mjs': 'javascript', '.cjs': 'javascript', '.jsx': 'javascriptreact' },
  ...{ '.py': 'python', '.pyi': 'python' },
};

export class ImportedDeclarations {
  readonly #parts: ImportedDeclarationsParts;
  readonly #known = new Map<string, Known>();
  readonly #outlines = new Map<string, { stamp: string; outline: Outline | null }>();

  constructor(parts: ImportedDeclarationsParts) {
    this.#parts = parts;
  }

  /** What is known of a document's imports; what has changed since is found out for the next time. */
  beside(uri: string): readonly ContextChunk[] {
    const document = this.#parts.documents.get(uri);
    if (!document) return [];
    const known = this.#known.get(uri) ?? { chunks: [], mark: null, running: false };
    const head = document.text.slice(0, HEAD_CHARS);
    const mark = head.match(/^.*\b(?:import|from)\b.*$/gm)?.join('\n') ?? '';
    if (known.mark !== mark && !known.running) {
      if (this.#known.size >= REMEMBERED_MAX) this.#known.clear();
      this.#known.set(uri, Object.assign(known, { running: true, mark }));
      this.#find(uri, document.languageId, head)
        .then((chunks) => Object.assign(known, { chunks }))
        .catch(() => undefined) // a file that went away meanwhile: what was known stays
        .finally(() => Object.assign(known, { running: false }));
    }
    return known.chunks;
  }

  /** A file was saved: what is imported from it may be another, and what was imported on several lines is looked at anew. */
  saved(): void {
    for (const known of this.#known.values()) known.mark = null;
  }

  /** Which files may be used has changed. */
  reset(): void {
    this.#known.clear();
    this.#outlines.clear();
  }

  async #find(uri: string, languageId: string, text: string): Promise<ContextChunk[]> {
    if (!uri.startsWith('file:')) return [];
    const own = await this.#parts.outline(languageId, text);
    const chunks: ContextChunk[] = [];
    let room = DECLARATIONS_MAX;
    for (const wanted of own?.imports ?? []) {
      if (room === 0) break;
      const found = await this.#declarationsOf(wanted, fileURLToPath(uri));
      const taken = found.declarations.slice(0, room);
      room -= taken.length;
      const signatures = taken.map(({ signature }) => signature.slice(0, DECLARATION_CHARS_MAX));
      if (taken.length > 0) {
        chunks.push({ path: found.path, text: `${signatures.join('\n')}\n`, kind: 'declaration' });
      }
    }
    return chunks;
  }

  async #declarationsOf(
    { source, names }: Import,
    from: string,
  ): Promise<{ path: string; declarations: Declaration[] }> {
    for (const file of candidates(source, from, this.#parts.roots())) {
      const uri = pathToFileURL(file).href;
      const path = await this.#parts.pathFor(uri);
      const outline = path === null ? null : await this.#outlineOf(uri, file);
      if (path === null || outline === null) continue;
      const fits = ({ name }: Declaration): boolean => names === null || names.includes(name);
      return { path, declarations: outline.declarations.filter(fits) };
    }
    return { path: '', declarations: [] };
  }

  /** Of the open document where the file is open, else of the disk. */
  async #outlineOf(uri: string, file: string): Promise<Outline | null> {
    const document = this.#parts.documents.get(uri);
    const info = document ? null : await stat(file).catch(() => null);
    if (!document && (!info?.isFile() || info.size > FILE_BYTES_MAX)) return null;
    const stamp = document ? `v${document.version}` : `${info?.mtimeMs}:${info?.size}`;
    const known = this.#outlines.get(uri);
    if (known?.stamp === stamp) return known.outline;
    const text = document?.text ?? (await readFile(file, 'utf8'));
    const outline = await this.#parts.outline(LANGUAGES[extname(file)] ?? '', text);
    if (this.#outlines.size >= REMEMBERED_MAX) this.#outlines.clear();
    this.#outlines.set(uri, { stamp, outline });
    return outline;
  }
}

const ENDINGS = ['', '.ts', '.tsx', '.js', '.jsx', '.mjs', '/index.ts', '/index.tsx', '/index.js'];

/** Files that an import may mean, likeliest first; none for packages. */
export function candidates(source: string, from: string, roots: readonly string[]): string[] {
  if (!/\.pyi?$/.test(from)) {
    if (!/^\.\.?\//.test(source)) return [];
    const path = join(dirname(from), source);
    // TypeScript lets a file of .ts be named by what it compiles to.
    const compiled = path.replace(/\.([mc]?)jsx?$/, '.$1ts');
    return [...new Set([compiled, ...ENDINGS.map((ending) => path + ending)])].filter(
      (one) => extname(one) in LANGUAGES,
    );
  }
  const dots = /^\.*/.exec(source)?.[0].length ?? 0;
  const module = source.slice(dots).split('.').filter(Boolean);
  const bases = dots === 0 ? [dirname(from), ...roots, ...roots.map((root) => join(root, 'src'))] : [up(from, dots)];
  return bases.flatMap((base) => {
    const path = join(base, ...module);
    return module.length === 0 ? [join(path, '__init__.py')] : [`${path}.py`, join(path, '__init__.py')];
  });
}

const up = (from: string, dots: number): string => join(dirname(from), ...Array.from({ length: dots - 1 }, () => '..'));
