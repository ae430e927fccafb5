// The tool service's process. Started as root it first takes what only root can reach (the vault's keys), gives root up, and only
// then opens anything else, listens or runs a tool.
import { rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { openVault } from '#kit/audit/key-folder.ts';
import { createLifecycle, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { startTracing, type Tracing } from '#kit/otlp/tracing.ts';
import { reportReady } from '#kit/parent.ts';
import { parseAddress } from '#kit/rpc/address.ts';
import { readConfig } from './config.ts';
import { UNPRIVILEGED_ID } from './jail/limits.ts';
import { giveUpRoot } from './jail/privileges.ts';
import { FAILED_EXIT_MS } from './limits.ts';
import { startTools, type ToolsService } from './service.ts';
import { compileAll, compileThreads } from './thread-modules.ts';
import { openToolParts, ownFolders } from './tool-parts.ts';

/** Started by root the service has a folder of its own for its socket; nobody else may remove it. */
async function removeSocketFolder(listen: string): Promise<void> {
  const address = parseAddress(listen);
  if (address.kind === 'unix') await rmdir(dirname(address.path)).catch(() => {}); // it holds others' sockets, or is gone
}

async function main(): Promise<void> {
  if (process.argv[2] === '--compile') return compileAll(); // with it everything that this module imports
  const config = readConfig(process.env);
  await compileThreads(config.uid ?? UNPRIVILEGED_ID);
  const vault = config.audit ? await openVault(config.audit.keyDir) : null;
  const wasRoot = process.getuid?.() === 0;
  const start = giveUpRoot({ folders: ownFolders(config), uid: config.uid });
  if (wasRoot) process.chdir('/'); // not to keep hold of a folder that this account may not enter by its path
  const log = createLog({ service: 'tools', level: config.logLevel });
  const metrics = createMetrics('tools', { processMetrics: true });
  let service: ToolsService | null = null;
  let tracing: Tracing | null = null;
  const lifecycle = createLifecycle({
    log,
    drainGraceMs: config.drainGraceMs,
    steps: [
      {
        name: 'tracing', // first, so that it stops last: the others' last spans still go out
        async start() {
          tracing = await startTracing({ service: 'tools', config: config.tracing, log, metrics });
        },
        stop: () => tracing?.close(),
      },
      {
        name: 'tools',
        async start({ signal }) {
          const parts = await openToolParts(config, start, { log, signal });
          service = await startTools({ config, parts, vault, log, metrics, ...(tracing && { spans: tracing.spans }) });
        },
        ready() {
          if (!service) return;
          const { catalog, jail } = service.context;
          const { tier, list } = jail.capabilities();
          const missing = list
            .filter(({ available }) => !available)
            .map(({ detail, remedy }) => `${detail}; ${remedy}`);
          const { packs } = config.folders;
          reportReady({ addresses: [service.address], tier, tools: catalog.list().length, missing, packs });
        },
        drain: (options) => service?.drain(options),
        async stop() {
          await service?.close();
          await removeSocketFolder(config.listen);
        },
      },
    ],
  });
  await lifecycle.start();
  // A disk error: what the files hold is known again after a start, which whoever supervises this process makes, with back-off.
  const failure = await (service as ToolsService | null)!.failed;
  log.fatal({ err: failure }, 'exiting to start again');
  setTimeout(() => process.exit(1), config.drainGraceMs + FAILED_EXIT_MS).unref(); // a disk that hangs holds nobody up
  await lifecycle.stop(failure.message);
  throw failure;
}

await runMain('tools', main);
