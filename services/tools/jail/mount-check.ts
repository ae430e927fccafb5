// What bubblewrap mounted, read back before the command starts. A workspace may be changed, by another command that runs in
// it, between the look at a protected path and its mount: a folder become a link would bring a foreign place inside.
import { readText } from './cgroups.ts';
import { WORK } from './launch-options.ts';

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

/**
 * A mount below the workspace that comes from elsewhere, be it from another place of the workspace, as a sentence, or null.
 * `mountinfo` is the text of a process inside; undefined: the mounts are not complete yet.
 */
export function foreignMount(mountinfo: string): string | null | undefined {
  const mounts = parse(mountinfo);
  if (!isComplete(mounts)) return undefined;
  const work = mounts.find(({ point }) => point === WORK)!;
  const base = work.root === '/' ? '' : work.root;
  const foreign = mounts.find(
    ({ device, root, point }) =>
      point.startsWith(`${WORK}/`) &&
      (device !== work.device || root !== base + point.slice(WORK.length) || root.endsWith('//deleted')),
  );
  return foreign
    ? `a protected path of the workspace was replaced while the sandbox was made (${foreign.point})`
    : null;
}

/** For a process inside whose mounts are complete: throws when one below the workspace comes from elsewhere. */
export function checkMounts(pid: number): void {
  const verdict = foreignMount(readText(`/proc/${pid}/mountinfo`) ?? '');
  if (verdict === undefined) throw new Error('the mounts of the sandbox are not what they must be');
  if (verdict !== null) throw new Error(verdict);
}
