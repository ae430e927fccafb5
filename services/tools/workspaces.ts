// The folders that tools work in, one per (tenant, session). Their names come from a random key: they say nothing about whose they
// are, and nobody guesses another's. Each has a quota, which is looked at while calls run in it.
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, lstatSync, unlinkSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { isNameless, type OpenWorkspace, type WorkspaceCopies, type WorkspaceDoor } from './call-ports.ts';
import { emptyTrash, inFolder, removeTree, walkTree } from './folder-tree.ts';
import { SharedLock } from './shared-lock.ts';
import { TenantFolders } from './tenant-folders.ts';
import type { Workspace } from './tool.ts';
import {
  DISK_RESERVE_BYTES,
  NAMELESS_IDLE_MS,
  SNAPSHOTS_BYTES_MAX,
  SNAPSHOTS_MAX,
  TEMPORARY_AGE_MS,
  TENANT_WORKSPACES_BYTES_MAX,
  TENANT_WORKSPACES_MAX,
  WORKSPACE_BYTES_MAX,
  WORKSPACE_ENTRIES_MAX,
  WORKSPACE_IDLE_MS,
  WORKSPACE_SWEEP_MS,
  WORKSPACE_WATCH_MS,
} from './tool-limits.ts';
import { ulid } from './ulid.ts';
import { readArtifact } from './workspace-artifact.ts';
import { TEMPORARY_PREFIX } from './workspace-path.ts';
import { restoreSnapshot, snapshotBytes, writeSnapshot } from './workspace-snapshot.ts';
import { checkReserve, measure, type WorkspaceUsage, WorkspaceWatch } from './workspace-watch.ts';

/** Configuration that programs of the host obey: read-only inside. */
export const PROTECTED_PATHS: readonly string[] = [
  ...['.git/hooks', '.git/config', '.git/config.worktree', '.git/info', '.git/commondir', '.git/modules'],
  ...['.gitmodules', '.gitconfig'],
  ...[
    '.mcp.json',
    '.vscode',
    '.idea',
    '.cursor',
    '.claude',
    '.devcontainer',
    '.envrc',
    '.npmrc',
    '.yarnrc.yml',
    '.pypirc',
  ],
  ...['.bashrc', '.bash_profile', '.bash_logout', '.profile', '.zshrc', '.zshenv', '.zprofile', '.ssh', '.husky'],
];

export type WorkspaceFolders = WorkspaceDoor &
  WorkspaceCopies & {
    usage(caller: Session): Promise<WorkspaceUsage>;
    /** Removes workspaces that no call has used for long, and temporary files that killed calls left. */
    sweep(now?: number): Promise<void>;
    close(): Promise<void>;
  };

type Session = { readonly tenant: string; readonly sessionId: string; readonly requestId?: string };

export type WorkspaceOptions = {
  /** Below folders that the sandbox's account may enter; made 0700 when it is not there. */
  readonly dir: string;
  readonly bytesMax?: number;
  readonly entriesMax?: number;
  readonly watchMs?: number;
  readonly reserveBytes?: number;
  /** Of one tenant: what it has beyond goes, used longest ago first. */
  readonly tenantCountMax?: number;
  readonly tenantBytesMax?: number;
  readonly onError?: (error: unknown, message: string) => void;
};

/** Calls in a folder now, and what must happen without any. */
type Use = {
  holders: number;
  exclusive: Promise<unknown> | null;
  readonly watch: WorkspaceWatch;
  /** Of the calls that run. */
  readonly lock: SharedLock;
};

const KEY_BYTES = 32;
/** A copy that is about to become the workspace. */
const NEXT = 'next';
/** Names the tenant, in a way that says nothing. */
const TENANT = 'tenant';
/** Stands in the folder of a run that was given no session. */
const NAMELESS = 'nameless';

async function nameKey(dir: string): Promise<Buffer> {
  const path = join(dir, 'names.key');
  await writeFile(path, randomBytes(KEY_BYTES), { mode: 0o600, flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const key = await readFile(path);
  if (key.length === KEY_BYTES) return key;
  const message = `${path}: expected ${KEY_BYTES} bytes, got ${key.length}; remove it, and every session gets a new workspace`;
  throw new QuernError('FAILED_PRECONDITION', message);
}

class Folders implements WorkspaceFolders {
  readonly #dir: string;
  readonly #trash: string;
  readonly #key: Buffer;
  readonly #options: WorkspaceOptions;
  readonly #uses = new Map<string, Use>();
  readonly #tenants: TenantFolders;
  readonly #closing = new AbortController();
  readonly #sweeper: NodeJS.Timeout;
  #sweeping: Promise<void> = Promise.resolve();
  /** One after the other, and no call waits for it. */
  #counting: Promise<void> = Promise.resolve();

  constructor(options: WorkspaceOptions, key: Buffer) {
    this.#dir = options.dir;
    this.#trash = join(options.dir, '.trash');
    this.#key = key;
    this.#options = options;
    const { tenantCountMax = TENANT_WORKSPACES_MAX, tenantBytesMax = TENANT_WORKSPACES_BYTES_MAX } = options;
    this.#tenants = new TenantFolders({ countMax: tenantCountMax, bytesMax: tenantBytesMax });
    this.#sweeper = setInterval(() => this.#sweepQuietly(), WORKSPACE_SWEEP_MS);
    this.#sweeper.unref();
  }

  #sweepQuietly(): void {
    this.sweep().catch((error: unknown) => this.#options.onError?.(error, 'workspaces cannot be swept'));
  }

  #name(of: readonly string[]): string {
    return createHmac('sha256', this.#key).update(JSON.stringify(of)).digest('hex').slice(0, 32);
  }

  #folder({ tenant, sessionId }: Session): string {
    return join(this.#dir, this.#name([tenant, sessionId]));
  }

  /** After a call. What is in use again is counted after that. */
  async #count(tenant: string, folder: string): Promise<void> {
    if (this.#uses.has(folder) || this.#closing.signal.aborted) return;
    this.#tenants.set(tenant, folder, { usedMs: Date.now(), bytes: await this.#bytesOf(folder) });
    for (const excess of this.#tenants.excess(tenant)) {
      if (!this.#uses.has(excess)) await this.#remove(excess);
    }
  }

  async #bytesOf(folder: string): Promise<number> {
    const { bytes } = await measure(join(folder, 'work'), { signal: this.#closing.signal });
    return bytes + (await snapshotBytes(join(folder, 'snapshots')));
  }

  /** Unless a call is in it: false. */
  async #remove(folder: string): Promise<boolean> {
    try {
      await this.#alone(folder, () => {
        this.#tenants.delete(folder);
        return removeTree(folder, this.#trash);
      });
      return true;
    } catch (error) {
      if ((error as QuernError).details?.reason !== 'WORKSPACE_BUSY') throw error;
      return false;
    }
  }

  async discard(session: Session): Promise<boolean> {
    await this.#counting; // of the last call, which may have just left
    return this.#remove(this.#folder(session));
  }

  #use(folder: string): Use {
    const fresh = (): Use => ({ holders: 0, exclusive: null, watch: this.#newWatch(folder), lock: new SharedLock() });
    const use = this.#uses.get(folder) ?? fresh();
    this.#uses.set(folder, use);
    return use;
  }

  /** What runs alone in the folder ends. The folder may have been forgotten meanwhile, and have another Use. */
  async #settled(folder: string, { exclusive }: Use): Promise<Use> {
    await exclusive?.catch(() => undefined);
    return this.#use(folder);
  }

  #newWatch(folder: string): WorkspaceWatch {
    const {
      bytesMax = WORKSPACE_BYTES_MAX,
      entriesMax = WORKSPACE_ENTRIES_MAX,
      watchMs = WORKSPACE_WATCH_MS,
      reserveBytes = DISK_RESERVE_BYTES,
      onError = () => undefined,
    } = this.#options;
    return new WorkspaceWatch(join(folder, 'work'), { bytesMax, entriesMax, watchMs, reserveBytes, onError });
  }

  #forget(folder: string, use: Use): void {
    if (use.holders === 0 && use.exclusive === null) this.#uses.delete(folder);
  }

  async enter(session: Session, { waits = false } = {}): Promise<OpenWorkspace> {
    checkReserve(this.#dir, this.#options.reserveBytes ?? DISK_RESERVE_BYTES);
    const folder = this.#folder(session);
    const tenant = this.#name([session.tenant]);
    let use = this.#use(folder);
    while (use.exclusive) use = await this.#settled(folder, use);
    use.holders++;
    const path = join(folder, 'work');
    try {
      await mkdir(path, { recursive: true, mode: 0o700 });
      await chmod(path, 0o700); // a call may have changed it
      await utimes(folder, new Date(), new Date());
      if (!this.#tenants.get(tenant, folder)) {
        await writeFile(join(folder, TENANT), tenant, { mode: 0o600 });
        if (isNameless(session)) await writeFile(join(folder, NAMELESS), '', { mode: 0o600 });
        this.#tenants.set(tenant, folder, { usedMs: Date.now(), bytes: 0 });
      }
    } catch (error) {
      use.holders--;
      this.#forget(folder, use);
      throw error;
    }
    const workspace: Workspace = { path, protected: PROTECTED_PATHS };
    const full = new AbortController();
    let unwatch = waits ? null : use.watch.join(full);
    let letGo = (): void => undefined;
    let left: Promise<void> | null = null;
    const leave = async (): Promise<void> => {
      unwatch?.();
      letGo();
      use.holders--;
      this.#forget(folder, use);
      await utimes(folder, new Date(), new Date()).catch(() => undefined); // only its age
      this.#counting = this.#counting
        .then(() => this.#count(tenant, folder))
        .catch((error: unknown) => this.#options.onError?.(error, 'a workspace cannot be counted'));
    };
    return {
      workspace,
      full: full.signal,
      async begin({ hold, signal }) {
        if (hold !== 'none') letGo = await use.lock.take({ alone: hold === 'alone', signal });
        if (left) letGo();
        else unwatch ??= use.watch.join(full);
      },
      artifact: (file) => readArtifact(path, file),
      leave() {
        left ??= leave();
        return left;
      },
    };
  }

  usage(session: Session): Promise<WorkspaceUsage> {
    const path = join(this.#folder(session), 'work');
    return lstatSync(path, { throwIfNoEntry: false })
      ? measure(path, { signal: this.#closing.signal })
      : Promise.resolve({ bytes: 0, entries: 0 });
  }

  /** Runs while no call is in the folder; calls that come meanwhile wait. FAILED_PRECONDITION when one is there. */
  async #alone<T>(folder: string, run: () => Promise<T>): Promise<T> {
    let use = this.#use(folder);
    while (use.exclusive) use = await this.#settled(folder, use);
    if (use.holders > 0) {
      const message = 'a call is running in this workspace; try again when it has ended';
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'WORKSPACE_BUSY' });
    }
    const done = run();
    use.exclusive = done;
    try {
      return await done;
    } finally {
      use.exclusive = null;
      this.#forget(folder, use);
    }
  }

  snapshot(session: Session): Promise<{ id: string; bytes: number; files: number }> {
    const folder = this.#folder(session);
    const { bytesMax = WORKSPACE_BYTES_MAX, entriesMax = WORKSPACE_ENTRIES_MAX } = this.#options;
    return this.#alone(folder, async () => {
      const kept = join(folder, 'snapshots');
      await mkdir(join(folder, 'work'), { recursive: true, mode: 0o700 });
      await mkdir(kept, { recursive: true, mode: 0o700 });
      const id = ulid();
      const { signal } = this.#closing;
      const size = await writeSnapshot(join(folder, 'work'), join(kept, id), { bytesMax, entriesMax }, { signal });
      const names = (await readdir(kept)).filter((name) => name !== id).sort(); // by time
      let room = SNAPSHOTS_BYTES_MAX - size.bytes;
      for (const [age, name] of names.reverse().entries()) {
        room -= (await stat(join(kept, name))).size;
        if (age >= SNAPSHOTS_MAX - 1 || room < 0) await rm(join(kept, name));
      }
      return { id, ...size };
    });
  }

  rollback(session: Session, id: string): Promise<void> {
    const folder = this.#folder(session);
    return this.#alone(folder, async () => {
      const from = join(folder, 'snapshots', id);
      const isKnown = /^[0-9A-Z]{26}$/.test(id) && lstatSync(from, { throwIfNoEntry: false })?.isFile() === true;
      if (!isKnown) {
        const message = `this session has no copy ${JSON.stringify(id.slice(0, 40))}; the newest ${SNAPSHOTS_MAX} are kept`;
        throw new QuernError('NOT_FOUND', message, { reason: 'SNAPSHOT_UNKNOWN' });
      }
      const fresh = join(folder, `work.${ulid()}`);
      try {
        await restoreSnapshot(from, fresh, { signal: this.#closing.signal });
      } catch (error) {
        await removeTree(fresh, this.#trash);
        throw error;
      }
      await rename(fresh, join(folder, NEXT)); // from here on a crash finishes it
      await this.#takeNext(folder);
    });
  }

  /** The second half of a rollback: the finished copy takes the workspace's place. */
  async #takeNext(folder: string): Promise<void> {
    await removeTree(join(folder, 'work'), this.#trash);
    await rename(join(folder, NEXT), join(folder, 'work'));
  }

  sweep(now = Date.now()): Promise<void> {
    this.#sweeping = this.#sweeping.catch(() => undefined).then(() => this.#sweep(now));
    return this.#sweeping;
  }

  async #sweep(now: number): Promise<void> {
    await mkdir(this.#trash, { recursive: true, mode: 0o700 });
    await emptyTrash(
      this.#trash,
      (await readdir(this.#trash)).map((name) => join(this.#trash, name)),
    );
    for (const name of (await readdir(this.#dir)).filter((one) => /^[0-9a-f]{32}$/.test(one))) {
      if (this.#closing.signal.aborted) return;
      const folder = join(this.#dir, name);
      const use = this.#uses.get(folder);
      if (use) continue; // in use now
      const { mtimeMs } = await stat(folder);
      const isFor = existsSync(join(folder, NAMELESS)) ? NAMELESS_IDLE_MS : WORKSPACE_IDLE_MS;
      if (now - mtimeMs > isFor) {
        await this.#remove(folder);
        continue;
      }
      await this.#alone(folder, () => this.#sweepTemporary(folder, now, mtimeMs)).catch((error: unknown) => {
        if ((error as QuernError).details?.reason !== 'WORKSPACE_BUSY') throw error;
      });
    }
  }

  /** Also what a crash left of a rollback: a copy that was finished is taken, half of one is not. */
  async #sweepTemporary(folder: string, now: number, usedMs: number): Promise<void> {
    const names = await readdir(folder);
    if (names.includes(NEXT)) await this.#takeNext(folder);
    for (const name of names) {
      if (name.startsWith('work.')) await removeTree(join(folder, name), this.#trash);
    }
    const work = join(folder, 'work');
    if (!lstatSync(work, { throwIfNoEntry: false })) return;
    const { signal } = this.#closing;
    const tenant = await readFile(join(folder, TENANT), 'utf8').catch(() => null);
    if (tenant !== null) this.#tenants.set(tenant, folder, { usedMs, bytes: await this.#bytesOf(folder) });
    await walkTree(
      work,
      (entry) => {
        const isOld = entry.name.startsWith(TEMPORARY_PREFIX) && now - entry.stat.mtimeMs > TEMPORARY_AGE_MS;
        if (isOld && entry.kind === 'file') unlinkSync(inFolder(entry.folder, entry.name));
      },
      { signal },
    ).catch((error: unknown) => {
      if (!(error instanceof QuernError)) throw error; // too deep to look at: it goes with the workspace
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    this.#closing.abort(new QuernError('UNAVAILABLE', 'the service stops'));
    await this.#sweeping.catch(() => undefined);
    await this.#counting;
  }
}

/** Opens the folder of all workspaces, and removes what a crash left half removed. */
export async function openWorkspaces(options: WorkspaceOptions): Promise<WorkspaceFolders> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const folders = new Folders(options, await nameKey(options.dir));
  await folders.sweep();
  return folders;
}
