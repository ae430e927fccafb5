/**
 * The folder of one running mesh: its sockets and mesh.json, which says who runs it and where what listens. A mesh that
 * was killed leaves it behind; the next `quern up` sweeps it. Other commands read it to name a socket.
 */
import { lstatSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

export type MeshPart = {
  kind: 'nats' | 'jaeger' | 'audit' | 'tools' | 'tokenizer' | 'engine' | 'gateway';
  name: string;
  addresses: string[];
};

export type MeshRecord = {
  /** Of `quern up`. */
  pid: number;
  /** When that process began, in the kernel's own count: tells it from a later one that got the same pid. */
  started: string | null;
  /** A /tmp may be shared by machines that do not see one another's processes. */
  host: string;
  http: string;
  grpc: string;
  /** Of both. */
  tls: boolean;
  parts: MeshPart[];
  /** Whose keys, logs and audit log are this mesh's. */
  stateDir: string;
  /** False: it was started without an audit log. */
  audited: boolean;
};

const NAME = /^quern-(?:\d+-)?[0-9a-f]{12}$/;
const RECORD = 'mesh.json';
const RECORD_BYTES_MAX = 65_536;

/** Puts the record into the folder, which is there and private; replaces an earlier record. */
export function writeMeshRecord(folder: string, record: Omit<MeshRecord, 'pid' | 'started' | 'host'>): void {
  const { pid } = process;
  const whole: MeshRecord = { pid, started: startOf(pid), host: hostname(), ...record };
  const temporary = join(folder, `${RECORD}.tmp`);
  writeFileSync(temporary, `${JSON.stringify(whole, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, join(folder, RECORD));
}

/** Takes away sockets, record and folder. What else lies there stays, and the folder with it. */
export function removeMeshFolder(folder: string): void {
  try {
    for (const file of readdirSync(folder)) {
      if (file.endsWith('.sock') || file.startsWith(RECORD)) rmSync(join(folder, file), { force: true });
    }
    rmdirSync(folder);
  } catch {
    // Gone already, or holds something that is not ours to remove.
  }
}

/** Removes the folders below `parents` that are this user's and whose process is dead; answers their paths. */
export function sweepMeshFolders(parents: readonly string[]): string[] {
  const stale = meshFolders(parents).filter(({ record }) => record.host === hostname() && !isRunning(record));
  for (const { folder } of stale) removeMeshFolder(folder);
  return stale.map(({ folder }) => folder);
}

/** The meshes of this user that run now. */
export function runningMeshes(parents: readonly string[]): MeshRecord[] {
  return meshFolders(parents)
    .map(({ record }) => record)
    .filter((record) => record.host === hostname() && isRunning(record));
}

/** An address to listen on as a client on this machine writes it: what listens everywhere listens here too. */
export function callAddress(listening: string): string {
  return listening.replace(/^0\.0\.0\.0(?=:)/, '127.0.0.1').replace(/^\[::\](?=:)/, '[::1]');
}

function meshFolders(parents: readonly string[]): { folder: string; record: MeshRecord }[] {
  return [...new Set(parents)].flatMap((parent) =>
    listOf(parent)
      .filter((name) => NAME.test(name))
      .map((name) => join(parent, name))
      .flatMap((folder) => {
        const record = readRecord(folder);
        return record === null ? [] : [{ folder, record }];
      }),
  );
}

function listOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Null for a folder that is another user's, open to others, or without a record. */
function readRecord(folder: string): MeshRecord | null {
  try {
    const file = join(folder, RECORD);
    const around = lstatSync(folder);
    const inside = lstatSync(file);
    const uid = process.getuid?.() ?? around.uid;
    if (!around.isDirectory() || around.uid !== uid || (around.mode & 0o077) !== 0) return null;
    if (!inside.isFile() || inside.size > RECORD_BYTES_MAX) return null;
    const record = JSON.parse(readFileSync(file, 'utf8')) as MeshRecord;
    return Number.isInteger(record.pid) && record.pid > 1 && Array.isArray(record.parts) ? record : null;
  } catch {
    return null;
  }
}

/** Field 22 of /proc/PID/stat; null when there is no such process, or no /proc. A process that only waits to be collected is gone. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name in brackets may hold spaces
    return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

function isRunning({ pid, started }: MeshRecord): boolean {
  if (started !== null) return startOf(pid) === started;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
