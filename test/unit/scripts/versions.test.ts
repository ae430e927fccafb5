/** Set-up runs on Node 20 and shares no file with the services: what both say about nats-server must be the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { NATS_VERSION_MIN } from '#kit/audit/limits.ts';
import { checkServerVersion } from '#kit/audit/nats-version.ts';

type Versions = {
  minimum: { natsServer: string };
  natsServer: string;
  compareVersions(a: string, b: string): number;
};

const file = pathToFileURL(`${import.meta.dirname}/../../../scripts/versions.mjs`).href;

test('set-up and services take the same nats-servers', async () => {
  const { minimum, natsServer, compareVersions } = (await import(file)) as Versions;
  assert.equal(minimum.natsServer, NATS_VERSION_MIN);
  assert.ok(compareVersions(natsServer, NATS_VERSION_MIN) >= 0, 'the one that is built');
  for (const version of ['2.9.25', '2.13.99', '2.14', '2.14.0', '2.14.1', '2.15.2', '2.100.0', '3.0.0', '1.99.99']) {
    const isRefused = compareVersions(version, NATS_VERSION_MIN) < 0;
    if (isRefused) assert.throws(() => checkServerVersion(version), /expected 2\.14\.0 or newer/, version);
    else checkServerVersion(version);
  }
});
