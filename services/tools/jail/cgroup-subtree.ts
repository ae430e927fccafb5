// The part of the cgroup tree that belongs to this service: found below its own group, made by the step that still has
// the rights, and handed to the account under which sandboxes run.
import { chownSync, existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openCgroupsV1, V1_CONTROLLERS, V1_REQUIRED, type V1Controller, type V1Folders } from './cgroup-v1.ts';
import { openCgroupsV2, V2_REQUIRED } from './cgroup-v2.ts';
import { type CgroupsFound, foldersIn, readProcesses, readText, staleSubtrees, subtreeName } from './cgroups.ts';

/** What the kernel tells about this process; tests give texts of their own. */
export type CgroupView = { readonly mountinfo: string; readonly ownGroups: string };

export function readCgroupView(): CgroupView {
  return {
    mountinfo: readText('/proc/self/mountinfo') ?? '',
    ownGroups: readText('/proc/self/cgroup') ?? '',
  };
}

/** v2: where the service itself and, where it shared its group, its neighbours go: a group with groups has no processes. */
const SERVICE_LEAF = 'service';
const NEIGHBOURS_LEAF = 'quern-services';

/** A later start finds itself in one of the leaves that the first one made. */
const OWN_LEAF = new RegExp(`/(?:quern-tools-\\d+-\\d+/${SERVICE_LEAF}|${NEIGHBOURS_LEAF})$`);

const REMEDY =
  'start the service as root (it makes its cgroups and gives root up), or give its systemd unit Delegate=yes (from a ' +
  'shell: systemd-run --user --scope -p Delegate=yes ...), or in a container mount cgroups writable; without them ' +
  'tools run only where the operator allows tier A-';

type Mount = { root: string; point: string; type: string; options: string[] };

function mountsOf(mountinfo: string): Mount[] {
  return mountinfo
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [left = '', right = ''] = line.split(' - ');
      const [, , , root = '', point = ''] = left.split(' ');
      const [type = '', , options = ''] = right.split(' ');
      return { root, point, type, options: options.split(',') };
    });
}

/** This process's own group as a folder: its path in the hierarchy, seen through what is mounted of it. */
function ownFolder({ root, point }: Mount, group: string): string {
  const inside = group.startsWith('/..') ? '/' : group;
  if (root === '/' || root.startsWith('/..')) return inside === '/' ? point : join(point, inside);
  return group.startsWith(`${root}/`) ? join(point, group.slice(root.length)) : point;
}

function groupOf(view: CgroupView, matches: (controllers: string) => boolean): string {
  for (const line of view.ownGroups.split('\n')) {
    const [, controllers = '', ...path] = line.split(':');
    if (path.length > 0 && matches(controllers)) return path.join(':');
  }
  return '/';
}

/** Folder of this process's own group per v1 controller; controllers mounted together share one. */
export function ownV1Folders(view: CgroupView): V1Folders {
  const found: Partial<Record<V1Controller, string>> = {};
  for (const mount of mountsOf(view.mountinfo)) {
    if (mount.type !== 'cgroup') continue;
    for (const controller of V1_CONTROLLERS) {
      if (!mount.options.includes(controller)) continue;
      found[controller] ??= ownFolder(
        mount,
        groupOf(view, (names) => names.split(',').includes(controller)),
      );
    }
  }
  return found;
}

/** Folder of this process's own v2 group, or null when v2 is not mounted. */
export function ownV2Folder(view: CgroupView): string | null {
  const mount = mountsOf(view.mountinfo).find(({ type }) => type === 'cgroup2');
  return mount
    ? ownFolder(
        mount,
        groupOf(view, (names) => names === ''),
      )
    : null;
}

function give(path: string, owner: Owner): void {
  if (owner !== null && existsSync(path)) chownSync(path, owner.uid, owner.gid);
}

/** Who gets the subtree; null: this process keeps its account and must already have the rights. */
export type Owner = { readonly uid: number; readonly gid: number } | null;

/** What services that are gone have left in a folder, as far as no process is in it; the sweep does the rest. */
function removeEmpty(folder: string): void {
  for (const name of staleSubtrees(folder)) {
    const subtree = join(folder, name);
    for (const place of [...foldersIn(subtree).map((group) => join(subtree, group)), subtree]) {
      try {
        rmdirSync(place);
      } catch {
        // Busy, or another account's.
      }
    }
  }
}

function makeV1(own: V1Folders, owner: Owner): CgroupsFound {
  const folders: Partial<Record<V1Controller, string>> = {};
  for (const [controller, folder] of Object.entries(own) as [V1Controller, string][]) {
    removeEmpty(folder);
    const subtree = join(folder, subtreeName());
    mkdirSync(subtree, { recursive: true });
    for (const leaf of ['', 'cgroup.procs', 'tasks']) give(join(subtree, leaf), owner);
    folders[controller] = subtree;
  }
  return { ok: true, cgroups: openCgroupsV1(folders) };
}

/** Moves every process of a group into another; those that end meanwhile, or may not be moved, stay out. */
function moveAll(from: string, to: string): void {
  for (const pid of readProcesses(join(from, 'cgroup.procs'))) {
    try {
      writeFileSync(join(to, 'cgroup.procs'), String(pid));
    } catch {
      // It ended, or is a kernel thread of the root group.
    }
  }
}

function makeV2(own: string, owner: Owner): CgroupsFound {
  const base = own.replace(OWN_LEAF, '');
  const controllers = (readText(join(base, 'cgroup.controllers')) ?? '').trim().split(' ');
  const missing = V2_REQUIRED.filter((name) => !controllers.includes(name));
  if (missing.length > 0) {
    return { ok: false, detail: `the cgroup ${base} has no ${missing.join(', ')} controller`, remedy: REMEDY };
  }
  removeEmpty(base);
  const subtree = join(base, subtreeName());
  const leaf = join(subtree, SERVICE_LEAF);
  mkdirSync(leaf, { recursive: true });
  writeFileSync(join(leaf, 'cgroup.procs'), String(process.pid));
  const enabled = V2_REQUIRED.map((name) => `+${name}`).join(' ');
  try {
    writeFileSync(join(base, 'cgroup.subtree_control'), enabled);
  } catch {
    const neighbours = join(base, NEIGHBOURS_LEAF);
    mkdirSync(neighbours, { recursive: true });
    moveAll(base, neighbours);
    writeFileSync(join(base, 'cgroup.subtree_control'), enabled);
  }
  writeFileSync(join(subtree, 'cgroup.subtree_control'), enabled);
  for (const file of ['', 'cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads']) give(join(subtree, file), owner);
  for (const file of ['', 'cgroup.procs', 'cgroup.threads']) give(join(leaf, file), owner);
  return { ok: true, cgroups: openCgroupsV2(subtree) };
}

/**
 * Makes the service's subtree below its own group and gives it to `owner`. v1 where its controllers are mounted, since a
 * v2 tree beside it has none of them. Never throws: what is missing is told, with what to do.
 */
export function prepareCgroups(owner: Owner, view: CgroupView = readCgroupView()): CgroupsFound {
  const v1 = ownV1Folders(view);
  const v2 = ownV2Folder(view);
  const complete = V1_REQUIRED.every((name) => v1[name] !== undefined);
  if (!complete && v2 === null) {
    const absent = V1_REQUIRED.filter((name) => v1[name] === undefined);
    return { ok: false, detail: `no cgroup hierarchy with ${absent.join(', ')} is mounted`, remedy: REMEDY };
  }
  try {
    return complete ? makeV1(v1, owner) : makeV2(v2!, owner);
  } catch (error) {
    return { ok: false, detail: `cgroups cannot be made: ${(error as Error).message}`, remedy: REMEDY };
  }
}
