/**
 * Quern's own files as the tool service sees them. Started by root it becomes an account that may not enter, say, /root: below such a
 * folder it is given a mount namespace of its own, in which what it reads of the checkout lies read-only where that account may
 * enter. The folder stays closed to everybody else, and the mounts end with the process.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** How to start a service: `words` go before the path of Node. */
export type CheckoutView = { words: readonly string[]; root: string; node: string };

const execute = promisify(execFile);
const PROGRAM_TIMEOUT_MS = 30_000; // a busy machine takes seconds to start a program
/** The mount point. It stays, empty; the mounts on it are seen by the service alone. Always the same, for the compile cache's sake. */
const PLACE = '/run/quern-checkout';

/** Makes the view, then becomes the command that follows. The folders and files below PLACE are only there to be mounted on. */
const MAKE_VIEW = `set -e
place=$1 root=$2 node=$3
shift 3
mkdir -p -m 0755 "$place"
mount -t tmpfs -o mode=0755,size=64k quern "$place"
mkdir "$place/services" "$place/node_modules"
: > "$place/package.json"
: > "$place/node"
for name in services node_modules package.json; do mount -o bind,ro "$root/$name" "$place/$name"; done
mount -o bind,ro "$node" "$place/node"
addon=engine-native/build/spawn_addon.node
if [ -f "$root/$addon" ]; then
  mkdir -m 0755 "$place/engine-native" "$place/engine-native/build"
  : > "$place/$addon"
  mount -o bind,ro "$root/$addon" "$place/$addon"
fi
mount -o remount,bind,ro "$place"
exec "$@"`;

type Checkout = { root: string; node: string };

/** The service's main file stands for all of Quern. */
const fileOf = (root: string): string => join(root, 'services', 'tools', 'main.ts');

/** False also where nobody can be asked: then the service says itself what is wrong. */
async function isClosedTo(uid: number, { root, node }: Checkout): Promise<boolean> {
  const look = execute('test', ['-r', fileOf(root), '-a', '-x', node], { uid, gid: uid, timeout: PROGRAM_TIMEOUT_MS });
  return look.then(
    () => false,
    (error: { code?: unknown }) => error.code === 1,
  );
}

/** Whether the account can run Node there and read a file of Quern: it cannot where mounting is forbidden, or the files are closed too. */
async function isOpenTo(uid: number, { words, root, node }: CheckoutView): Promise<boolean> {
  const become = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'];
  const read = ['-e', 'require("node:fs").accessSync(process.argv[1])', fileOf(root)];
  const [command = '', ...args] = [...words, ...become, node, ...read];
  return execute(command, args, { timeout: PROGRAM_TIMEOUT_MS, cwd: '/' }).then(
    () => true,
    () => false,
  );
}

/** The view that `uid` needs of the checkout; null: none, or none can be made. Of use to root only. */
export async function viewFor(uid: number, checkout: Checkout): Promise<CheckoutView | null> {
  if (!(await isClosedTo(uid, checkout))) return null;
  const makeView = ['sh', '-c', MAKE_VIEW, 'quern-view', PLACE, checkout.root, checkout.node];
  const view = {
    words: ['unshare', '--mount', '--propagation', 'private', '--', ...makeView],
    root: PLACE,
    node: join(PLACE, 'node'),
  };
  return (await isOpenTo(uid, view)) ? view : null;
}
