// A command as bubblewrap's options. They travel through a pipe: on its command line /proc would show them inside.
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { INNER_UID, SHM_BYTES } from './limits.ts';
import type { SandboxCommand } from './sandbox.ts';
import type { Toolchain } from './toolchain.ts';

/** The workspace inside. */
export const WORK = '/work';
/** The egress proxy's socket inside, where the network is 'proxy'. */
export const PROXY_SOCKET = '/run/proxy.sock';

export type LaunchPlaces = {
  readonly toolchain: Toolchain;
  /** Host folder that becomes /etc. */
  readonly etc: string;
  /** Host path of the egress proxy's socket. */
  readonly proxySocket: string | null;
};

const ISOLATION = [
  ['--unshare-all', '--disable-userns', '--assert-userns-disabled'],
  ['--die-with-parent', '--new-session', '--cap-drop', 'ALL'],
  ['--hostname', 'sandbox', '--uid', String(INNER_UID), '--gid', String(INNER_UID)],
].flat();

const ENVIRONMENT = { PATH: '/usr/bin:/bin', HOME: '/tmp', LANG: 'C.UTF-8', TMPDIR: '/tmp' };

/**
 * The protected paths that are there, as plain files and folders all the way down. The workspace may change between this
 * look and the mount, which is why launch.ts reads back what was mounted.
 */
export function presentProtected(workspace: NonNullable<SandboxCommand['workspace']>): string[] {
  return workspace.protected.filter((path) => {
    const parts = path.split('/');
    return parts.every((_, index) => {
      const found = lstatSync(join(workspace.path, ...parts.slice(0, index + 1)), { throwIfNoEntry: false });
      return found?.isDirectory() === true || (index === parts.length - 1 && found?.isFile() === true);
    });
  });
}

/**
 * The folders on the way to these paths, outer ones first. Each becomes a mount of its own: a folder that is a mount point can be
 * neither renamed nor removed inside, so that none is put in the place of one with read-only paths in it.
 */
function waysTo(paths: readonly string[]): string[] {
  const isClosed = (way: string): boolean => paths.some((path) => way === path || way.startsWith(`${path}/`));
  const ways = paths.flatMap((path) => {
    const parts = path.split('/');
    return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('/'));
  });
  return [...new Set(ways)].filter((way) => !isClosed(way)).sort();
}

/** A mount below the workspace; the path is relative to it. */
export type MountBelow = { readonly path: string; readonly readOnly: boolean };

/** The mounts that protected paths need, outer ones first. */
export function mountsOf(closed: readonly string[]): MountBelow[] {
  return [
    ...waysTo(closed).map((path) => ({ path, readOnly: false })),
    ...closed.map((path) => ({ path, readOnly: true })),
  ];
}

function workspaceOptions({ workspace, limits }: SandboxCommand, below: readonly MountBelow[]): string[] {
  if (workspace === null) return ['--size', String(limits.tmpBytes), '--perms', '0755', '--tmpfs', WORK];
  if (!workspace.writable) return ['--ro-bind', workspace.path, WORK];
  const mount = ({ path, readOnly }: MountBelow): string[] => [
    readOnly ? '--ro-bind' : '--bind',
    ...[join(workspace.path, path), join(WORK, path)],
  ];
  return ['--bind', workspace.path, WORK, ...below.flatMap(mount)];
}

/**
 * All options in order; the last mounts close what is writable and unbounded until then. --unshare-user is the very last:
 * --disable-userns, which is on the command line, has bubblewrap refuse options that were cut short before it makes anything.
 * `below` are the mounts that held-mounts.ts allows.
 */
export function launchOptions(command: SandboxCommand, places: LaunchPlaces, below: readonly MountBelow[]): string[] {
  const { toolchain, etc, proxySocket } = places;
  const proxy = command.network === 'proxy' && proxySocket !== null ? ['--bind', proxySocket, PROXY_SOCKET] : [];
  return [
    ...ISOLATION,
    ...['--ro-bind', toolchain.root, '/usr'],
    ...[
      '--symlink',
      'usr/lib',
      '/lib',
      '--symlink',
      'usr/lib64',
      '/lib64',
      '--symlink',
      'usr/bin',
      '/bin',
      '--symlink',
      'usr/sbin',
      '/sbin',
    ],
    ...['--proc', '/proc', '--dev', '/dev', '--ro-bind', etc, '/etc'],
    ...['--size', String(SHM_BYTES), '--perms', '1777', '--tmpfs', '/dev/shm'],
    ...['--size', String(command.limits.tmpBytes), '--perms', '1777', '--tmpfs', '/tmp'],
    ...[...toolchain.binds, ...command.binds].flatMap(({ from, to }) => ['--ro-bind', from, to]),
    ...proxy,
    ...workspaceOptions(command, below),
    ...['--chdir', WORK, '--clearenv'],
    ...Object.entries({ ...ENVIRONMENT, ...command.env }).flatMap(([name, value]) => ['--setenv', name, value]),
    ...['--remount-ro', '/dev', '--remount-ro', '/'],
    '--unshare-user',
  ];
}

/** Each item ends with NUL, as --args wants it. */
export function encodeOptions(options: readonly string[]): Uint8Array {
  return Buffer.from(options.map((option) => `${option}\0`).join(''));
}
