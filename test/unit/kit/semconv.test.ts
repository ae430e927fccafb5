// The conventions move: their names stand in one file, so that following them is one change.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as semconv from '#kit/semconv.ts';
import { serverFault } from '#kit/semconv.ts';

const SERVICES = join(import.meta.dirname, '..', '..', '..', 'services');

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.startsWith('gen/') && path !== join('kit', 'semconv.ts'))
    .map((path) => join(folder, path));
}

test('attribute names of the conventions are written in kit/semconv.ts and nowhere else', () => {
  const found = sources(SERVICES).flatMap((path) =>
    [...readFileSync(path, 'utf8').matchAll(/['"](?:gen_ai|rpc|messaging|http|server|error)\.[a-z_.]+['"]/g)].map(
      ([name]) => `${path.slice(SERVICES.length + 1)}: ${name}`,
    ),
  );
  assert.deepEqual(found, []);
});

test('no name stands twice, and none is one that the conventions have dropped', () => {
  const names = Object.values(semconv).filter((value) => typeof value === 'string' && value.includes('.')) as string[];
  assert.equal(new Set(names).size, names.length);
  const dropped = [
    'rpc.system',
    'rpc.service',
    'rpc.grpc.status_code',
    'gen_ai.system',
    'http.method',
    'http.status_code',
  ];
  for (const name of dropped) assert.ok(!names.includes(name), name);
});

test('what the caller did is no error of the server', () => {
  for (const code of [
    'OK',
    'CANCELLED',
    'INVALID_ARGUMENT',
    'RESOURCE_EXHAUSTED',
    'NOT_FOUND',
    'UNAUTHENTICATED',
    null,
  ])
    assert.equal(serverFault(code), null, String(code));
  for (const code of ['UNKNOWN', 'DEADLINE_EXCEEDED', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'])
    assert.equal(serverFault(code), code);
});
