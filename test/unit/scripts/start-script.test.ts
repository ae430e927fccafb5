/** `npm start` runs its script in a shell, and gives that shell the signals that npm gets. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const { scripts } = JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', '..', 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

test('the shell of npm start becomes the program, or SIGTERM to npm would end the shell and leave the mesh running', () => {
  for (const name of ['prestart', 'start']) assert.match(scripts[name] ?? '', /^exec node [^;&|]+$/, name);
});
