import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { inspectSandbox } from '../../../services/cli/doctor/sandbox.ts';
import { type MeshPart, writeMeshRecord } from '../../../services/cli/up/mesh-folder.ts';

/** A bwrap that says its version, and otherwise ends as a test wants. */
function fakeBwrap(t: TestContext, version: string, refusal: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-bwrap-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const refuse = refusal === '' ? 'exit 0' : `echo '${refusal}' >&2; exit 1`;
  writeFileSync(
    join(dir, 'bwrap'),
    `#!/bin/sh\nif [ "$1" = --version ]; then echo "bubblewrap ${version}"; exit 0; fi\n${refuse}\n`,
  );
  chmodSync(join(dir, 'bwrap'), 0o755);
  chmodSync(dir, 0o755);
  return dir;
}

type Places = Parameters<typeof inspectSandbox>[0];
const inspect = (path: string, places: Partial<Places> = {}) =>
  inspectSandbox({ runtimeParents: [], stateDir: '/nowhere', toolsAddress: undefined, env: {}, path, ...places });
const named = (findings: Awaited<ReturnType<typeof inspect>>, name: string) =>
  findings.find((one) => one.name === name);

test('a bubblewrap that is too old is told with how to get a newer one, and nothing is tried with it', async (t) => {
  const findings = await inspect(fakeBwrap(t, '0.6.1', ''));
  assert.match(named(findings, 'bubblewrap')!.remedy!, /0\.8.*apt-get install bubblewrap/);
  assert.equal(named(findings, 'sandbox namespaces'), undefined);
});

test('what bwrap says when it is refused becomes what to do', async (t) => {
  const cases: [string, RegExp][] = [
    ['bwrap: setting up uid map: Permission denied', /AppArmor/],
    ['bwrap: No permissions to create new namespace, likely because of a container', /seccomp/],
    ['bwrap: Can\\047t mount proc on /newroot/proc: Operation', /systempaths|namespaces/],
    ['bwrap: something else', /no tool runs/],
  ];
  for (const [refusal, remedy] of cases) {
    const found = named(await inspect(fakeBwrap(t, '0.8.0', refusal)), 'sandbox namespaces')!;
    assert.equal(found.verdict, 'optional');
    assert.match(found.remedy!, remedy, refusal);
  }
  assert.equal(named(await inspect(fakeBwrap(t, '0.11.0', '')), 'sandbox namespaces')!.verdict, 'ok');
});

test('only the tool service of the mesh that is meant is asked, and that none was is said', async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'quern-meshes-'));
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  const bwrap = fakeBwrap(t, '0.8.0', '');
  const folder = join(parent, 'quern-0123456789ab');
  mkdirSync(folder, { mode: 0o700 });
  const parts: MeshPart[] = [{ kind: 'tools', name: 'tools', addresses: [`unix://${parent}/nobody.sock`] }];
  const record = { http: '', grpc: 'x', tls: false, parts, audited: false };
  writeMeshRecord(folder, { ...record, stateDir: '/state/of/another' });
  const inspectMeshes = (places: Partial<Places>) => inspect(bwrap, { runtimeParents: [parent], ...places });
  const other = named(await inspectMeshes({ stateDir: '/state/of/mine' }), 'tool service')!;
  const others = `pid ${process.pid} with QUERN_STATE_DIR=/state/of/another`;
  const said = `not asked: no mesh with the state folder /state/of/mine runs; others do: ${others}`;
  assert.equal(other.found, said);
  assert.match(other.remedy!, /QUERN_STATE_DIR/);
  const own = named(await inspectMeshes({ stateDir: '/state/of/another' }), 'tool service')!;
  assert.match(own.found, /nobody\.sock does not answer/);
  writeMeshRecord(folder, { ...record, parts: [], stateDir: '/state/of/another' });
  const without = named(await inspectMeshes({ stateDir: '/state/of/another' }), 'tool service')!;
  assert.match(without.found, /runs without tools/);
});
