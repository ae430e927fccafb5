import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findJaeger, jaegerConfiguration } from '../../../services/cli/up/jaeger.ts';
import { planTraces, traceEnv, traceRows, traceUi } from '../../../services/cli/up/trace-plan.ts';

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'quern-traces-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function install(folder: string, name: string): string {
  mkdirSync(join(folder, name), { recursive: true });
  const path = join(folder, name, 'jaeger');
  writeFileSync(path, '#!/bin/sh\n');
  chmodSync(path, 0o755);
  return path;
}

test('Jaeger is looked for on PATH, then in the caches, the newest first, with a built UI beside it', (t) => {
  const folder = folderOf(t);
  const caches = [join(folder, 'none'), folder];
  assert.equal(findJaeger({ path: '/nowhere', caches }), null);
  install(folder, 'jaeger-1.9.0');
  const newest = install(folder, 'jaeger-1.76.0');
  assert.deepEqual(findJaeger({ path: '/nowhere', caches }), { path: newest, uiDir: null });
  mkdirSync(join(folder, 'jaeger-ui-1.76.0'));
  writeFileSync(join(folder, 'jaeger-ui-1.76.0', 'index.html'), '');
  const onPath = install(folder, 'bin');
  assert.deepEqual(findJaeger({ path: join(folder, 'bin'), caches }), {
    path: onPath,
    uiDir: join(folder, 'jaeger-ui-1.76.0'),
  });
});

test('its configuration listens on loopback only and is bounded', () => {
  const text = jaegerConfiguration({ otlp: 1, ui: 2, health: 3 }, { uiDir: '/ui' });
  const config = JSON.parse(text);
  assert.deepEqual(
    [...text.matchAll(/"endpoint": "([^"]+)"/g)].map(([, endpoint]) => endpoint?.split(':')[0]),
    Array(4).fill('127.0.0.1'),
  );
  assert.equal(config.extensions.jaeger_query.ui.assets_path, '/ui');
  assert.ok(config.extensions.jaeger_storage.backends.memory.memory.max_traces > 0);
});

test('off, elsewhere, absent and own: what the services are told and what the table says', async (t) => {
  const folder = folderOf(t);
  const settings = {
    off: false,
    otlpEndpoint: undefined,
    places: { path: '/nowhere', caches: [folder] },
    stateDir: folder,
  };
  const off = await planTraces({ ...settings, off: true, otlpEndpoint: 'http://x:1' });
  assert.deepEqual([traceEnv(off).QUERN_OTLP_ENDPOINT, traceRows(off), traceUi(off)], ['', [], null]);
  const elsewhere = await planTraces({ ...settings, otlpEndpoint: 'http://x:1' });
  assert.deepEqual([traceEnv(elsewhere), traceRows(elsewhere)[0]?.where], [{}, 'http://x:1']);
  const absent = await planTraces(settings);
  assert.deepEqual(traceEnv(absent), {});
  assert.match(traceRows(absent)[0]?.what ?? '', /get-jaeger/);
  const program = install(folder, 'jaeger-1.76.0');
  const own = await planTraces(settings);
  assert.ok(own.kind === 'own');
  const { ports, words } = own.own;
  assert.equal(new Set(Object.values(ports)).size, 3);
  assert.equal(traceEnv(own).QUERN_OTLP_ENDPOINT, `http://127.0.0.1:${ports.otlp}`);
  assert.equal(traceUi(own), `http://127.0.0.1:${ports.ui}`);
  assert.deepEqual(words.slice(-3, -1), [program, '--config']);
  assert.ok(JSON.parse(readFileSync(words.at(-1) ?? '', 'utf8')).receivers.otlp);
  assert.deepEqual(traceRows(own), []);
});
