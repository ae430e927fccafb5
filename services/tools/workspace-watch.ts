// The size of a workspace, looked at again and again while calls are in it: one watch for all of them.
import { statfsSync } from 'node:fs';
import { QuernError } from '#kit/errors.ts';
import { walkTree } from './folder-tree.ts';
import { WORKSPACE_WATCH_FACTOR, WORKSPACE_WATCH_MAX_MS } from './tool-limits.ts';

export type WorkspaceUsage = { readonly bytes: number; readonly entries: number };

export type WatchOptions = {
  readonly bytesMax: number;
  readonly entriesMax: number;
  readonly watchMs: number;
  /** What the file system of the workspaces must have left. */
  readonly reserveBytes: number;
  readonly onError: (error: unknown, message: string) => void;
};

type Counted = { kind: string; stat: { size: number; blocks: number; nlink: number; ino: number } };

/** Bytes as the file system or a reader would count them, whichever is more: a sparse file is as large as it says. */
export async function measure(root: string, { signal }: { signal: AbortSignal }): Promise<WorkspaceUsage> {
  let bytes = 0;
  let entries = 0;
  const counted = new Set<number>();
  const visit = ({ kind, stat: found }: Counted): void => {
    entries++;
    if (kind === 'file' && found.nlink > 1) {
      if (counted.has(found.ino)) return;
      counted.add(found.ino);
    }
    bytes += Math.max(kind === 'file' ? found.size : 0, found.blocks * 512);
  };
  await walkTree(root, visit, { signal, deeper: visit });
  return { bytes, entries };
}

/** Throws RESOURCE_EXHAUSTED, reason DISK_FULL, when the file system of `path` has too little left. */
export function checkReserve(path: string, reserveBytes: number): void {
  const { bavail, bsize } = statfsSync(path);
  const free = bavail * bsize;
  if (free >= reserveBytes) return;
  const message = `the disk of the workspaces has ${free} bytes left; expected at least ${reserveBytes}, so that no tool fills it`;
  throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'DISK_FULL', retryAfterMs: 60_000 });
}

/** One call. `most`: what it may grow the workspace to; null: not looked at since it came. */
type Holder = { readonly full: AbortController; most: WorkspaceUsage | null };

export class WorkspaceWatch {
  readonly #path: string;
  readonly #options: WatchOptions;
  readonly #holders = new Set<Holder>();
  #last: WorkspaceUsage | null = null;
  #stop = new AbortController();
  #timer: NodeJS.Timeout | null = null;

  constructor(path: string, options: WatchOptions) {
    this.#path = path;
    this.#options = options;
  }

  /** Aborts `full` when the workspace has outgrown its quota, until what it returns is called. */
  join(full: AbortController): () => void {
    const holder: Holder = { full, most: this.#last && this.#mostFrom(this.#last) };
    this.#holders.add(holder);
    if (this.#holders.size === 1) this.#begin();
    return () => {
      if (this.#holders.delete(holder) && this.#holders.size === 0) this.#end();
    };
  }

  #begin(): void {
    this.#stop = new AbortController();
    this.#look(this.#stop.signal);
  }

  #end(): void {
    this.#stop.abort();
    if (this.#timer) clearTimeout(this.#timer);
    this.#last = null;
  }

  /** A workspace that was too large before may only shrink: something must be able to make it small. */
  #mostFrom({ bytes, entries }: WorkspaceUsage): WorkspaceUsage {
    const { bytesMax, entriesMax } = this.#options;
    return { bytes: Math.max(bytes, bytesMax), entries: Math.max(entries, entriesMax) };
  }

  #tell(holder: Holder, message: string): void {
    holder.full.abort(new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'WORKSPACE_FULL' }));
  }

  #look(stop: AbortSignal): void {
    const { watchMs, onError } = this.#options;
    const begin = performance.now();
    this.#scan(stop)
      .catch((error: unknown) => {
        if (stop.aborted) return;
        if (!(error instanceof QuernError)) onError(error, 'a workspace cannot be measured');
        const message = error instanceof QuernError ? error.message : 'the workspace cannot be measured';
        for (const holder of this.#holders) this.#tell(holder, message);
      })
      .finally(() => {
        if (stop.aborted) return;
        const took = performance.now() - begin;
        const wait = Math.max(watchMs, took, Math.min(WORKSPACE_WATCH_FACTOR * took, WORKSPACE_WATCH_MAX_MS));
        this.#timer = setTimeout(() => this.#look(stop), wait);
      });
  }

  async #scan(signal: AbortSignal): Promise<void> {
    const { bytesMax, entriesMax, reserveBytes } = this.#options;
    checkReserve(this.#path, reserveBytes);
    const usage = await measure(this.#path, { signal });
    this.#last = usage;
    for (const holder of this.#holders) {
      holder.most ??= this.#mostFrom(usage);
      if (usage.bytes > holder.most.bytes) {
        this.#tell(holder, `the workspace has ${usage.bytes} bytes; expected at most ${bytesMax}`);
      } else if (usage.entries > holder.most.entries) {
        this.#tell(holder, `the workspace has ${usage.entries} files; expected at most ${entriesMax}`);
      }
    }
  }
}
