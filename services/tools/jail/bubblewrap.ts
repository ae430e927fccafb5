// Finding a bubblewrap that can be trusted with the launch.
import { execFileSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { BUBBLEWRAP_MIN_VERSION } from './limits.ts';

export type BubblewrapFound =
  | { readonly ok: true; readonly path: string; readonly version: string }
  | { readonly ok: false; readonly detail: string; readonly remedy: string };

const INSTALL = 'install it: apt-get install bubblewrap (Debian >= 12, Ubuntu >= 24.04)';

function refuse(detail: string, remedy = INSTALL): BubblewrapFound {
  return { ok: false, detail, remedy };
}

/**
 * Looks for bwrap on a search path like PATH, or takes an absolute path as it is. Runs it once for its version. `account`
 * is the one that sandboxes run under.
 */
export function findBubblewrap(where: string, account = process.getuid?.() ?? 0): BubblewrapFound {
  const candidates = where.endsWith('/bwrap') ? [where] : where.split(delimiter).map((folder) => join(folder, 'bwrap'));
  const path = candidates.find((candidate) => isAbsolute(candidate) && isExecutable(candidate));
  if (path === undefined) return refuse(`there is no bwrap on ${where}`);
  const { mode, uid } = statSync(path);
  if ((mode & 0o4000) !== 0) {
    return refuse(`${path} is setuid root, which turns its mistakes into root's`, `chmod u-s ${path}`);
  }
  if ((mode & 0o002) !== 0 || (uid !== 0 && uid === account)) {
    return refuse(
      `${path} may be changed by the account that sandboxes run under`,
      'use the one that the system installs',
    );
  }
  return checkVersion(path);
}

function checkVersion(path: string): BubblewrapFound {
  let text: string;
  try {
    text = execFileSync(path, ['--version'], { env: {}, encoding: 'utf8', timeout: 5_000 }).trim();
  } catch (error) {
    return refuse(`${path} --version failed: ${(error as Error).message.split('\n')[0]}`);
  }
  const parts = /(\d+)\.(\d+)(?:\.(\d+))?/
    .exec(text)
    ?.slice(1)
    .map((part) => Number(part ?? 0));
  if (!parts) return refuse(`${path} --version said "${text.slice(0, 80)}", which is no version`);
  const version = parts.join('.');
  const least = BUBBLEWRAP_MIN_VERSION;
  const at = parts.findIndex((part, index) => part !== least[index]);
  if (at !== -1 && parts[at]! < least[at]!) {
    return refuse(`${path} is version ${version}, expected >= ${least.join('.')}`);
  }
  return { ok: true, path, version };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
