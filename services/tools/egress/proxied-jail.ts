// A jail in which commands with `network: proxy` find their proxy where programs look for one.
import { readFileSync } from 'node:fs';
import { QuernError } from '#kit/errors.ts';
import type { Jail, SandboxCommand } from '../jail/sandbox.ts';

const FORWARDER = readFileSync(new URL('./inside/forwarder.mjs', import.meta.url), 'utf8');
const PORT = '3128';
const ADDRESS = `http://127.0.0.1:${PORT}`;

/** The names that programs know; lower case is what curl obeys. */
const ENVIRONMENT = {
  http_proxy: ADDRESS,
  https_proxy: ADDRESS,
  HTTP_PROXY: ADDRESS,
  HTTPS_PROXY: ADDRESS,
  NODE_USE_ENV_PROXY: '1',
};

/** The command with a forwarder around it. `node`, `socket`: paths inside the sandbox. */
export function proxiedCommand(
  command: SandboxCommand,
  { node, socket }: { node: string; socket: string },
): SandboxCommand {
  if (command.network !== 'proxy') return command;
  const argv = [node, '--max-old-space-size=64', '-e', FORWARDER, '--', PORT, socket, ...command.argv];
  return { ...command, argv, env: { ...ENVIRONMENT, ...command.env } };
}

export type ProxiedJailOptions = { node: string | null; socket: string; isUp(): boolean };

/**
 * The same jail; commands with `network: proxy` need Node in the toolchain, FAILED_PRECONDITION without it, and the proxy, UNAVAILABLE
 * while it is not up.
 */
export function proxiedJail(jail: Jail, { node, socket, isUp }: ProxiedJailOptions): Jail {
  const wrapped = (command: SandboxCommand): SandboxCommand => {
    if (command.network === 'proxy' && node === null) {
      throw new QuernError(
        'FAILED_PRECONDITION',
        'commands with a network need Node in the toolchain, for the forwarder',
      );
    }
    if (command.network === 'proxy' && !isUp()) {
      throw new QuernError('UNAVAILABLE', 'the egress proxy is not up, it is being started; try again', {
        reason: 'EGRESS_PROXY_DOWN',
      });
    }
    return node === null ? command : proxiedCommand(command, { node, socket });
  };
  return {
    run: async (command, options) => jail.run(wrapped(command), options),
    open: (command, options) => jail.open(wrapped(command), options),
    capabilities: () => jail.capabilities(),
    probe: (options) => jail.probe(options),
    get running() {
      return jail.running;
    },
    close: () => jail.close(),
  };
}
