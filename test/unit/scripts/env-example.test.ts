import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { environmentExample } from '../../../scripts/env-example.ts';

test('deploy/env.example is what the settings say', () => {
  const file = join(import.meta.dirname, '..', '..', '..', 'deploy', 'env.example');
  assert.equal(readFileSync(file, 'utf8'), environmentExample(), 'run "node scripts/env-example.ts"');
});
