import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspectMachine } from '../../../services/cli/doctor/checks.ts';

test('what is missing is named with how to get it; what PATH has is shown with its version', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'quern-doctor-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'g++'), '#!/bin/sh\necho "g++ (Debian) 12.2.0"\n');
  chmodSync(join(dir, 'g++'), 0o755);
  const findings = new Map(inspectMachine(dir, { PATH: dir }).map((finding) => [finding.name, finding]));
  assert.deepEqual(findings.get('g++'), { name: 'g++', verdict: 'ok', found: 'g++ (Debian) 12.2.0' });
  assert.equal(findings.get('python3')?.verdict, 'missing');
  assert.match(findings.get('python3')?.remedy ?? '', /apt-get install/);
  assert.equal(findings.get('engine addon')?.verdict, 'missing');
  assert.equal(findings.get('model')?.verdict, 'missing');
  assert.equal(findings.get('node')?.verdict, 'ok');
});
