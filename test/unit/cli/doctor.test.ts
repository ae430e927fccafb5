import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatFindings } from '../../../services/cli/commands/doctor.ts';
import { inspectMachine } from '../../../services/cli/doctor/checks.ts';
import { describeInstructionSet } from '../../../services/cli/doctor/instruction-set.ts';

/** A checkout of its own whose PATH holds the programs that are given, each with what it prints as its version. */
async function inspect(t: TestContext, programs: Record<string, string>, { built = false } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'quern-doctor-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const bin = join(dir, 'bin');
  mkdirSync(bin);
  for (const [name, version] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\necho "${version}"\n`);
    chmodSync(join(bin, name), 0o755);
  }
  const addon = join(dir, 'engine_addon.node');
  if (built) writeFileSync(addon, '');
  const config = {
    root: dir,
    addon,
    model: undefined,
    runtimeParents: [dir],
    keysFile: undefined,
    places: { path: bin, caches: [join(dir, 'cache')] },
    stateDir: join(dir, 'state'),
    toolsAddress: undefined,
    env: {},
  };
  return new Map((await inspectMachine(config)).map((finding) => [finding.name, finding]));
}

test('what is missing is named with how to get it; what PATH has is shown with its version', async (t) => {
  const findings = await inspect(t, { 'g++': 'g++ (Debian) 12.2.0' });
  assert.deepEqual(findings.get('g++'), { name: 'g++', verdict: 'ok', found: 'g++ (Debian) 12.2.0' });
  assert.equal(findings.get('python3')?.verdict, 'missing');
  assert.match(findings.get('python3')?.remedy ?? '', /apt-get install/);
  assert.equal(findings.get('engine addon')?.verdict, 'missing');
  assert.match(findings.get('engine addon')?.remedy ?? '', /npm run build:native/);
  assert.equal(findings.get('model')?.verdict, 'missing');
  assert.equal(findings.get('node')?.verdict, 'ok');
  assert.equal(findings.get('running mesh')?.verdict, 'optional');
});

test('a compiler that is too old or absent is missing until the addon is built', async (t) => {
  const old = { 'g++': 'g++ (Debian 10.2.1-6) 10.2.1 20210110' };
  assert.equal((await inspect(t, old)).get('g++')?.verdict, 'missing');
  assert.match((await inspect(t, old)).get('g++')?.remedy ?? '', /12 or newer/);
  assert.equal((await inspect(t, old, { built: true })).get('g++')?.verdict, 'optional');
  assert.equal((await inspect(t, {}, { built: true })).get('g++')?.verdict, 'optional');
  assert.equal((await inspect(t, {}, { built: true })).get('python3')?.verdict, 'optional');
  const tools = { cmake: 'cmake version 3.25.1', ninja: '1.11.1' };
  assert.equal((await inspect(t, tools)).get('python3')?.verdict, 'optional');
});

test('a nats-server that is too old counts as none, with the reason and how to get one', async (t) => {
  const name = 'nats-server';
  assert.match((await inspect(t, { [name]: 'nats-server: v2.15.2' })).get(name)?.found ?? '', /^2\.15\.2 \(/);
  const old = (await inspect(t, { [name]: 'nats-server: v2.9.10' })).get(name);
  assert.equal(old?.verdict, 'optional');
  assert.match(old?.found ?? '', /nats-server 2\.9\.10: expected 2\.14\.0 or newer/);
  assert.match(old?.remedy ?? '', /node scripts\/get-nats\.mjs/);
  assert.match((await inspect(t, {})).get(name)?.found ?? '', /no nats-server on PATH or in the cache folders/);
});

test('Jaeger is optional: where it is, or how to get one', async (t) => {
  const name = 'jaeger';
  assert.match((await inspect(t, { [name]: '' })).get(name)?.found ?? '', /\/bin\/jaeger; its own page/);
  const none = (await inspect(t, {})).get(name);
  assert.equal(none?.verdict, 'optional');
  assert.match(none?.remedy ?? '', /node scripts\/get-jaeger\.mjs .*no traces/);
});

const AVX2 = ['avx', 'avx2', 'fma', 'f16c'];
const AVX512 = [...AVX2, 'avx512f', 'avx512dq', 'avx512bw', 'avx512vl'];

test('the kernels are those that the engine will choose', () => {
  assert.deepEqual(describeInstructionSet('x64', AVX2), { kernels: 'AVX2 kernels', fast: true });
  const bf16 = describeInstructionSet('x64', [...AVX512, 'avx512_bf16', 'avx512_vnni']);
  assert.deepEqual(bf16, { kernels: 'AVX-512 kernels with BF16', fast: true });
  const portable = describeInstructionSet('x64', ['avx', 'sse4_2']);
  assert.equal(portable.fast, false);
  assert.match(portable.kernels, /portable kernels.*lacks avx2, fma, f16c/);
  assert.equal(describeInstructionSet('arm64', []).fast, false);
});

test('AVX-512 without BF16, or only a part of it, says which kernels run and why', () => {
  const without = describeInstructionSet('x64', [...AVX512, 'avx512_vnni']);
  assert.equal(without.kernels, 'AVX-512 kernels without BF16');
  assert.match(without.remedy ?? '', /^nothing to do; /);
  const part = describeInstructionSet('x64', [...AVX2, 'avx512f', 'avx512_bf16']);
  assert.equal(part.kernels, 'AVX2 kernels; its AVX-512 lacks avx512dq, avx512bw, avx512vl');
});

test('the text has the remedy below its line and one sentence at the end', () => {
  const text = formatFindings([
    { name: 'node', verdict: 'ok', found: 'Node 24' },
    { name: 'model', verdict: 'missing', found: 'none', remedy: 'get one' },
    { name: 'load', verdict: 'slow', found: '9' },
  ]);
  const [first, second, remedy] = text.split('\n');
  assert.equal(first, 'ok        node   Node 24');
  assert.equal(second, 'missing   model  none');
  assert.equal(remedy, '                 -> get one');
  assert.ok(text.endsWith('\n\nMissing: model. Slower than it could be: load.\n'));
});
