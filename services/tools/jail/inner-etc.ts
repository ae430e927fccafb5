// The /etc of a sandbox: what programs need to start, the starter among it, and nothing of this machine's.
import { mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { INNER_UID } from './limits.ts';
import { STARTER_PATH, starter } from './starter.ts';

const FILES: Readonly<Record<string, string>> = {
  passwd:
    `root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:${INNER_UID}:${INNER_UID}:sandbox:/tmp:/bin/bash\n` +
    'nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n',
  group: `root:x:0:\nsandbox:x:${INNER_UID}:\nnogroup:x:65534:\n`,
  hosts: '127.0.0.1 localhost sandbox\n::1 localhost\n',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files\n',
  'resolv.conf': '# There is no name server here.\n',
};

/** Of the host's, since they say what is in the toolchain and to whom to listen: library cache, certificates. */
const COPIED = ['ld.so.cache', 'ssl/certs/ca-certificates.crt'];

/** Writes the folder that becomes /etc, once per service start. `host` is where the copied files come from. */
export function writeInnerEtc(folder: string, host = '/etc'): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(folder, name), text, { mode: 0o444 });
  writeFileSync(join(folder, basename(STARTER_PATH)), starter(), { mode: 0o555 });
  for (const name of COPIED) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    const bytes = readIfThere(join(host, name));
    if (bytes !== null) writeFileSync(path, bytes, { mode: 0o444 });
  }
  copyAlternatives(join(host, 'alternatives'), join(folder, 'alternatives'));
}

function readIfThere(path: string): Uint8Array | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}

/** On Debian /usr/bin/awk and others lead through links here. */
function copyAlternatives(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  let names: string[] = [];
  try {
    names = readdirSync(from);
  } catch {
    return; // other distributions have none
  }
  for (const name of names) {
    const target = linkTarget(join(from, name));
    if (target?.startsWith('/usr/')) symlinkSync(target, join(to, name));
  }
}

function linkTarget(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
