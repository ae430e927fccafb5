import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type MeshRecord,
  removeMeshFolder,
  runningMeshes,
  sweepMeshFolders,
  writeMeshRecord,
} from '../../../services/cli/up/mesh-folder.ts';

const NAME = 'quern-0123456789ab';
const PARTS = { http: '127.0.0.1:1', grpc: '127.0.0.1:2', tls: false, parts: [], stateDir: '/s', audited: true };

function parent(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-cli-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function meshFolder(parentDir: string, name: string, change: Partial<MeshRecord> = {}): string {
  const folder = join(parentDir, name);
  mkdirSync(folder, { mode: 0o700 });
  writeMeshRecord(folder, PARTS);
  const file = join(folder, 'mesh.json');
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as MeshRecord), ...change }));
  return folder;
}

/** The pid of a process that has ended and was collected. */
function deadPid(): number {
  return spawnSync('true').pid;
}

test('a running mesh is found with its addresses, and never swept', (t) => {
  const dir = parent(t);
  const folder = meshFolder(dir, NAME);
  const [found, ...rest] = runningMeshes([dir, dir]);
  assert.equal(rest.length, 0);
  assert.equal(found?.pid, process.pid);
  assert.equal(found?.grpc, '127.0.0.1:2');
  assert.deepEqual(sweepMeshFolders([dir]), []);
  assert.ok(existsSync(folder));
});

test('the folder of a dead process is swept, also when its pid was given to another', (t) => {
  const dir = parent(t);
  const dead = meshFolder(dir, NAME, { pid: deadPid(), started: '1' });
  writeFileSync(join(dead, 'engine-0.sock'), '');
  const reused = meshFolder(dir, 'quern-0-aaaaaaaaaaaa', { started: '1' });
  assert.deepEqual(runningMeshes([dir]), []);
  assert.deepEqual(sweepMeshFolders([dir]).sort(), [reused, dead].sort());
  assert.equal(existsSync(dead), false);
  assert.equal(existsSync(reused), false);
});

test('what may be somebody else is left alone', (t) => {
  const dir = parent(t);
  const pid = deadPid();
  const gone = { pid, started: '1' };
  const kept = [
    meshFolder(dir, 'quern-test-abcdef', gone), // not a name of ours
    meshFolder(dir, 'quern-0-bbbbbbbbbbbb', { ...gone, host: `not-${hostname()}` }),
    meshFolder(dir, 'quern-0-cccccccccccc', gone),
  ];
  chmodSync(join(dir, 'quern-0-cccccccccccc'), 0o755); // open to others, who may have written the record
  const empty = join(dir, 'quern-0-dddddddddddd');
  mkdirSync(empty, { mode: 0o700 }); // no record: perhaps just being made
  const target = meshFolder(dir, 'elsewhere', gone);
  symlinkSync(target, join(dir, 'quern-0-eeeeeeeeeeee'));
  assert.deepEqual(sweepMeshFolders([dir, join(dir, 'no-such-folder')]), []);
  for (const folder of [...kept, empty, target]) assert.ok(existsSync(folder), folder);
});

test('only sockets and the record are removed; a file of another make keeps the folder', (t) => {
  const dir = parent(t);
  const folder = meshFolder(dir, NAME);
  writeFileSync(join(folder, 'tokenizer.sock'), '');
  writeFileSync(join(folder, 'notes.txt'), 'mine');
  removeMeshFolder(folder);
  assert.equal(existsSync(join(folder, 'tokenizer.sock')), false);
  assert.equal(existsSync(join(folder, 'mesh.json')), false);
  assert.equal(readFileSync(join(folder, 'notes.txt'), 'utf8'), 'mine');
  removeMeshFolder(join(dir, 'never-was'));
});
