#!/usr/bin/env node
// The `quern-lsp` command. Node >= 24.12 runs main.ts right here; an older Node starts this file again under the Node 24
// that npm installed as node-linux-<arch>, with its own standard streams.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [major, minor] = process.versions.node.split('.').map(Number);

if (major > 24 || (major === 24 && minor >= 12)) {
  // Started by a launcher: when that dies, even by SIGKILL, the channel closes.
  process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  process.channel?.unref();
  await import('./main.ts');
} else startUnder(findNode24());

function findNode24() {
  const name = `node-${process.platform}-${process.arch}`;
  try {
    const node = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'bin', 'node');
    if (existsSync(node)) return node;
  } catch {
    // not installed: said below
  }
  process.stderr.write(
    `quern-lsp: needs Node >= 24.12; this is ${process.version} and the npm package ${name} is not installed. ` +
      'Run `npm ci` in the checkout (or install Node 24).\n',
  );
  process.exit(1);
}

function startUnder(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    process.stderr.write(`quern-lsp: cannot start ${node}: ${error.message}\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}
