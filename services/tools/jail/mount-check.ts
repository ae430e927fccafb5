// What bubblewrap mounted, read back before the command starts. A workspace may be changed, by another command that runs in
// it, between the look at a protected path and its mount: a folder become a link would bring a foreign place inside, below the
// workspace or, since bubblewrap follows links in the mount point too, anywhere.
import { readText } from './cgroups.ts';
import { type MountBelow, WORK } from './launch-options.ts';

type Mount = { device: string; root: string; point: string; readOnly: boolean; type: string };

function parse(mountinfo: string): Mount[] {
  return mountinfo
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [, , device = '', root = '', point = '', options = ''] = line.split(' ');
      const type = line.split(' - ')[1]?.split(' ')[0] ?? '';
      return { device, root, point, type, readOnly: options.split(',').includes('ro') };
    });
}

/** True once the last of the options was carried out: / is the sandbox's own and read-only. */
function isComplete(mounts: readonly Mount[]): boolean {
  const own = (point: string): boolean =>
    mounts.some((mount) => mount.point === point && mount.type === 'tmpfs' && mount.readOnly);
  const building = mounts.some(({ point }) => /^\/(?:newroot|oldroot)(?:\/|$)/.test(point));
  return own('/') && own('/dev') && !building && mounts.some(({ point }) => point === WORK);
}

/** Blanks and some others are octal in mountinfo. */
const plain = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/**
 * What is wrong below the workspace, as a sentence, or null: a mount from elsewhere, be it from another place of the workspace, or
 * one of `below` that is not there. Each of these was mounted, so that one missing from its place is in another, which may be
 * outside of the workspace. `mountinfo` is the text of a process inside; undefined: the mounts are not complete yet.
 */
export function foreignMount(mountinfo: string, below: readonly MountBelow[]): string | null | undefined {
  const mounts = parse(mountinfo);
  if (!isComplete(mounts)) return undefined;
  const work = mounts.find(({ point }) => point === WORK)!;
  const base = work.root === '/' ? '' : work.root;
  const inWork = mounts.filter(({ point }) => point.startsWith(`${WORK}/`));
  const replaced = (where: string): string =>
    `a protected path of the workspace was replaced while the sandbox was made (${where})`;
  const foreign = inWork.find(
    ({ device, root, point }) =>
      device !== work.device || root !== base + point.slice(WORK.length) || root.endsWith('//deleted'),
  );
  if (foreign) return replaced(foreign.point);
  const isThere = ({ path, readOnly }: MountBelow): boolean =>
    inWork.some((mount) => plain(mount.point) === `${WORK}/${path}` && (mount.readOnly || !readOnly));
  const missing = below.find((mount) => !isThere(mount));
  if (missing) return replaced(`${WORK}/${missing.path}`);
  return inWork.length === below.length ? null : replaced(WORK);
}

/** For a process inside whose mounts are complete: throws when those below the workspace are not what they must be. */
export function checkMounts(pid: number, below: readonly MountBelow[]): void {
  const verdict = foreignMount(readText(`/proc/${pid}/mountinfo`) ?? '', below);
  if (verdict === undefined) throw new Error('the mounts of the sandbox are not what they must be');
  if (verdict !== null) throw new Error(verdict);
}
