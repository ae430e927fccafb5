// Which workspaces are whose, how large they were when last looked at, and which of a tenant's go first when it has too many.
export type FolderFacts = { readonly usedMs: number; readonly bytes: number };

export class TenantFolders {
  readonly #tenants = new Map<string, Map<string, FolderFacts>>();
  readonly #bounds: { readonly countMax: number; readonly bytesMax: number };

  /** Of one tenant: folders, and bytes of all together. */
  constructor(bounds: { readonly countMax: number; readonly bytesMax: number }) {
    this.#bounds = bounds;
  }

  /** Undefined: this folder is not known. */
  get(tenant: string, folder: string): FolderFacts | undefined {
    return this.#tenants.get(tenant)?.get(folder);
  }

  set(tenant: string, folder: string, facts: FolderFacts): void {
    const folders = this.#tenants.get(tenant) ?? new Map<string, FolderFacts>();
    this.#tenants.set(tenant, folders);
    folders.set(folder, facts);
  }

  delete(folder: string): void {
    for (const [tenant, folders] of this.#tenants) {
      if (folders.delete(folder) && folders.size === 0) this.#tenants.delete(tenant);
    }
  }

  /** Folders that must go until the tenant keeps its bounds, those that were used longest ago first; never the newest. */
  excess(tenant: string): string[] {
    const { countMax, bytesMax } = this.#bounds;
    const newestFirst = [...(this.#tenants.get(tenant) ?? [])].sort(([, a], [, b]) => b.usedMs - a.usedMs);
    let total = 0;
    const isOver = newestFirst.map(([, { bytes }], index) => {
      total += bytes;
      return index > 0 && (index >= countMax || total > bytesMax);
    });
    return newestFirst
      .filter((_, index) => isOver[index])
      .map(([folder]) => folder)
      .reverse();
  }
}
