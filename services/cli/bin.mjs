#!/usr/bin/env node
// The `quern` command. Node >= 24.12 runs main.ts right here; an older Node starts this file again under the Node 24
// that npm installed as node-linux-<arch>, and then only passes on: standard streams, signals, the exit code.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const [major, minor] = process.versions.node.split('.').map(Number);

if (major > 24 || (major === 24 && minor >= 12)) await runMain();
else startUnder(findNode24());

async function runMain() {
  // Started by a launcher: when that dies, even by SIGKILL, the channel closes. main.ts may have a listener of its own.
  process.on('disconnect', () => {
    if (process.listenerCount('disconnect') === 1) process.kill(process.pid, 'SIGTERM');
  });
  process.channel?.unref(); // the channel alone must not keep a finished command alive
  process.argv[1] = join(here, 'main.ts');
  await import('./main.ts');
}

function findNode24() {
  const name = `node-${process.platform}-${process.arch}`;
  try {
    const node = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'bin', 'node');
    if (existsSync(node)) return node;
  } catch {
    // not installed: said below
  }
  process.stderr.write(
    `quern: needs Node >= 24.12; this is ${process.version} and the npm package ${name} is not installed. ` +
      'Run `npm ci` in the checkout (or install Node 24).\n',
  );
  process.exit(1);
}

function startUnder(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  // A terminal sends these to the child as well; passed on again, one Ctrl-C would look like two.
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGHUP']) process.on(signal, () => onTerminal || child.kill(signal));
  child.on('error', (error) => {
    process.stderr.write(`quern: cannot start ${node}: ${error.message}\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}
