// The policy in force, read again when its file changes. A file with a mistake, or one that is gone, changes nothing: what it said
// before goes on to hold, and the mistake is told.
import { stat } from 'node:fs/promises';
import { QuernError } from '#kit/errors.ts';
import { DEFAULT_POLICY, type Policy, readPolicy } from './policy.ts';
import { PACK_LOOK_MS } from './tool-limits.ts';
import type { SettingsProblem } from './tools-status.ts';

export type PolicyFile = {
  current(): Policy;
  /** Null: what the file says is what holds. */
  problem(): SettingsProblem | null;
  /** Looks now. Does nothing when the file is as it was; never rejects. */
  reload(): Promise<void>;
  close(): Promise<void>;
};

const signatureOf = async (path: string): Promise<string> => {
  const found = await stat(path, { bigint: true }).catch(() => null);
  return found ? `${found.mtimeNs}/${found.ctimeNs}/${found.size}/${found.ino}` : 'gone';
};

/**
 * Throws what readPolicy does: a service that cannot read its policy must not start. `path` null: the defaults hold.
 * `onChange` is called after each later reading, with the mistake or null.
 */
export async function openPolicyFile(options: {
  readonly path: string | null;
  readonly onChange: (problem: SettingsProblem | null) => void;
  readonly lookMs?: number;
}): Promise<PolicyFile> {
  const { path, onChange, lookMs = PACK_LOOK_MS } = options;
  if (path === null) {
    const nothing = async (): Promise<void> => {};
    return { current: () => DEFAULT_POLICY, problem: () => null, reload: nothing, close: nothing };
  }
  let signature = await signatureOf(path); // before it is read: a later change is seen
  let policy = await readPolicy(path);
  let problem: SettingsProblem | null = null;
  let turn: Promise<void> = Promise.resolve();

  async function look(file: string): Promise<void> {
    const found = await signatureOf(file);
    if (found === signature) return;
    try {
      policy = await readPolicy(file);
      problem = null;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const message = error instanceof QuernError ? error.message : `cannot be read (${code ?? 'unknown'})`;
      problem = { file, message: `${message}; what it said before still holds` };
    }
    signature = found;
    onChange(problem);
  }

  const reload = (): Promise<void> => {
    turn = turn.then(() => look(path));
    return turn;
  };
  const interval = setInterval(() => void reload(), lookMs);
  interval.unref();
  return {
    current: () => policy,
    problem: () => problem,
    reload,
    async close() {
      clearInterval(interval);
      await turn;
    },
  };
}
