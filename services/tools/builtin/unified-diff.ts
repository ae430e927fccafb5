// A strict reader of unified diffs, as git and diff -u write them. It takes changed, new and deleted text files, and refuses what
// else a diff can say: renames, modes, links, binary patches, paths that leave the workspace.
import { QuernError } from '#kit/errors.ts';
import { PATCH_FILES_MAX, PATCH_HUNKS_MAX } from '../tool-limits.ts';
import { writableFile } from '../workspace-path.ts';

export type Hunk = {
  /** Line of the old file at which it begins, from 1; of an addition, the line after which. */
  readonly line: number;
  readonly old: readonly string[];
  readonly new: readonly string[];
  /** "\ No newline at end of file" after the last old or new line. */
  readonly oldNoNewline: boolean;
  readonly newNoNewline: boolean;
};

export type FilePatch = {
  readonly path: string;
  readonly kind: 'create' | 'modify' | 'delete';
  readonly hunks: readonly Hunk[];
};

const NO_FILE = '/dev/null';

class DiffReader {
  readonly #lines: string[];
  #at = 0;

  constructor(text: string) {
    this.#lines = text.split('\n');
    if (this.#lines.at(-1) === '') this.#lines.pop();
  }

  get line(): string | undefined {
    return this.#lines[this.#at];
  }

  next(): string {
    return this.#lines[this.#at++] ?? '';
  }

  refuse(problem: string): never {
    const message = `arguments.patch, line ${this.#at + 1}: ${problem}`;
    throw new QuernError('INVALID_ARGUMENT', message, { fields: [{ field: 'patch', description: message }] });
  }
}

/** A name after "--- " or "+++ ": up to a tab, where a date may follow. */
function nameIn(reader: DiffReader, marker: '--- ' | '+++ '): string {
  const { line } = reader;
  if (!line?.startsWith(marker))
    reader.refuse(
      `expected "${marker}path", got ${line === undefined ? 'its end' : JSON.stringify(line.slice(0, 80))}`,
    );
  const name = line.slice(4).replace(/\t.*$/, '').replace(/\r$/, '');
  if (name.startsWith('"')) reader.refuse('quoted names are not supported');
  reader.next();
  return name;
}

const withoutPrefix = (name: string, prefix: 'a/' | 'b/'): string => (name.startsWith(prefix) ? name.slice(2) : name);

/** What git writes between "diff --git" and "---". */
function skipGitHeader(reader: DiffReader): void {
  reader.next();
  for (let { line } = reader; line !== undefined && !line.startsWith('--- '); { line } = reader) {
    const mode = /^(?:new file|deleted file) mode (\d+)$/.exec(line)?.[1];
    if (mode !== undefined && !/^100(?:644|755)$/.test(mode)) reader.refuse(`expected a plain file, got mode ${mode}`);
    if (mode === '100755' && line.startsWith('new')) reader.refuse('new files cannot be made executable');
    if (/^(?:old|new) mode /.test(line)) reader.refuse('modes cannot be changed');
    if (/^(?:rename|copy|similarity|dissimilarity) /.test(line))
      reader.refuse('renames and copies are not supported; delete and create');
    if (/^(?:GIT binary patch|Binary files )/.test(line)) reader.refuse('binary patches are not supported');
    if (mode === undefined && !/^index [0-9a-f]+\.\.[0-9a-f]+(?: 100(?:644|755))?$/.test(line)) {
      reader.refuse(`expected "index", a file mode or "---", got ${JSON.stringify(line.slice(0, 80))}`);
    }
    reader.next();
  }
  if (reader.line === undefined)
    reader.refuse('expected "--- path" and hunks; files without content are not supported');
}

/** Lines of one hunk until both counts are reached. */
function readHunk(reader: DiffReader): Hunk {
  const head = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@/.exec(reader.line ?? '');
  if (!head) return reader.refuse('expected a hunk, "@@ -line,count +line,count @@"');
  const oldCount = Number(head[2] ?? 1);
  const newCount = Number(head[4] ?? 1);
  reader.next();
  const old: string[] = [];
  const fresh: string[] = [];
  let oldNoNewline = false;
  let newNoNewline = false;
  let last = '';
  while (old.length < oldCount || fresh.length < newCount || reader.line?.startsWith('\\ ')) {
    const { line } = reader;
    if (line === undefined)
      return reader.refuse(
        `the hunk ends too early: ${old.length} of ${oldCount} old and ${fresh.length} of ${newCount} new lines`,
      );
    const sign = line === '' ? ' ' : line[0]!; // an empty context line that lost its blank
    const text = line.slice(1);
    if (sign === '\\') {
      if (last === '' || (oldNoNewline && last !== '+') || newNoNewline)
        return reader.refuse('a line "\\" without a line before it');
      if (last !== '+') oldNoNewline = true;
      if (last !== '-') newNoNewline = true;
    } else if (sign === ' ' || sign === '-' || sign === '+') {
      if ((sign !== '+' && oldNoNewline) || (sign !== '-' && newNoNewline))
        return reader.refuse('a line after the end of the file');
      if (sign !== '+') old.push(text);
      if (sign !== '-') fresh.push(text);
    } else
      return reader.refuse(
        `expected a line that begins with " ", "-", "+" or "\\", got ${JSON.stringify(line.slice(0, 40))}`,
      );
    if (old.length > oldCount || fresh.length > newCount)
      return reader.refuse('the hunk has more lines than its counts say');
    last = sign;
    reader.next();
  }
  return { line: Number(head[1]), old, new: fresh, oldNoNewline, newNoNewline };
}

function readFilePatch(reader: DiffReader, protectedPaths: readonly string[]): FilePatch {
  if (reader.line?.startsWith('diff --git ')) skipGitHeader(reader);
  const from = nameIn(reader, '--- ');
  const to = nameIn(reader, '+++ ');
  if (from === NO_FILE && to === NO_FILE) reader.refuse('neither side names a file');
  const named = to === NO_FILE ? withoutPrefix(from, 'a/') : withoutPrefix(to, 'b/');
  if (from !== NO_FILE && to !== NO_FILE && withoutPrefix(from, 'a/') !== named) {
    reader.refuse('renames are not supported; delete one file and create the other');
  }
  const path = writableFile(named, 'patch', protectedPaths);
  const hunks: Hunk[] = [];
  while (reader.line?.startsWith('@@ ')) {
    hunks.push(readHunk(reader));
    if (hunks.length > PATCH_HUNKS_MAX) reader.refuse(`expected at most ${PATCH_HUNKS_MAX} hunks`);
  }
  if (hunks.length === 0) reader.refuse('expected a hunk, "@@ -line,count +line,count @@"');
  const kind = from === NO_FILE ? 'create' : to === NO_FILE ? 'delete' : 'modify';
  if (kind === 'create' && (hunks.length > 1 || hunks[0]!.old.length > 0)) reader.refuse('a new file has no old lines');
  if (kind === 'delete' && hunks.some((hunk) => hunk.new.length > 0)) reader.refuse('a deleted file has no new lines');
  return { path, kind, hunks };
}

/** The files of a diff. Throws INVALID_ARGUMENT with the line of the mistake. */
export function parseUnifiedDiff(text: string, protectedPaths: readonly string[]): FilePatch[] {
  const reader = new DiffReader(text);
  const files: FilePatch[] = [];
  while (reader.line !== undefined) {
    const file = readFilePatch(reader, protectedPaths);
    if (files.some(({ path }) => path === file.path))
      reader.refuse(`the file ${JSON.stringify(file.path)} stands twice`);
    files.push(file);
    if (files.length > PATCH_FILES_MAX) reader.refuse(`expected at most ${PATCH_FILES_MAX} files`);
  }
  if (files.length === 0) reader.refuse('expected a unified diff');
  return files;
}
