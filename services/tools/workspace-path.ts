// Paths in the arguments of a call: below the workspace, or refused. The sandbox is what keeps a tool inside; this says early and
// in words what would fail there, and keeps names out that mean something to the host.
import { QuernError } from '#kit/errors.ts';
import { PATH_CHARS_MAX } from './tool-limits.ts';

/** The workspace inside the sandbox. */
export const WORK = '/work';
/** Of the files that are written before they get their name. */
export const TEMPORARY_PREFIX = '.quern-tmp-';

function invalid(field: string, description: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

/** The path relative to the workspace, "" for itself. Throws INVALID_ARGUMENT for one that leaves it. */
export function workspacePath(path: string, field: string): string {
  if (path.length > PATH_CHARS_MAX) throw invalid(field, `expected at most ${PATH_CHARS_MAX} characters`);
  if (path.includes('\0')) throw invalid(field, 'expected text without NUL');
  const inside = path === WORK || path.startsWith(`${WORK}/`) ? path.slice(WORK.length + 1) : path;
  if (inside.startsWith('/'))
    throw invalid(field, `expected a path below the workspace, got the absolute path ${JSON.stringify(path)}`);
  const names = inside.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) throw invalid(field, 'expected a path below the workspace, without ".."');
  return names.join('/');
}

/** Of a file: not the workspace itself. */
export function workspaceFile(path: string, field: string): string {
  const relative = workspacePath(path, field);
  if (relative === '') throw invalid(field, 'expected the path of a file');
  return relative;
}

/** As workspaceFile(), for writing: protected paths are read-only in the sandbox, and those that do not exist cannot be made. */
export function writableFile(path: string, field: string, protectedPaths: readonly string[]): string {
  const relative = workspaceFile(path, field);
  const covers = protectedPaths.find(
    (one) => relative === one || relative.startsWith(`${one}/`) || one.startsWith(`${relative}/`),
  );
  if (covers === undefined) return relative;
  throw invalid(field, `${JSON.stringify(relative)} is protected: programs outside the sandbox obey it`);
}
