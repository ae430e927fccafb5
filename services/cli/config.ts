/** The CLI's environment. */
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export type CliConfig = {
  /** gRPC address of the mesh that client commands talk to. */
  gateway: string;
  /** HTTP address of the same mesh, for `quern bench --http`. */
  http: string;
  apiKey: string | undefined;
  /** Model folders for `quern up`: DIR or NAME=DIR, comma separated. */
  model: string | undefined;
  stateDir: string;
  keysFile: string | undefined;
  /** The checkout that this CLI belongs to. */
  root: string;
  /** Passed on to supervised processes. */
  env: NodeJS.ProcessEnv;
};

/** Reads what the CLI needs; everything has a default. */
export function readCliConfig(env: NodeJS.ProcessEnv): CliConfig {
  const xdgState = env.XDG_STATE_HOME || join(homedir(), '.local', 'state');
  return {
    gateway: env.QUERN_GATEWAY || '127.0.0.1:50051',
    http: env.QUERN_GATEWAY_HTTP || '127.0.0.1:8000',
    apiKey: env.QUERN_API_KEY || undefined,
    model: env.QUERN_MODEL || undefined,
    stateDir: resolve(env.QUERN_STATE_DIR || join(xdgState, 'quern')),
    keysFile: env.QUERN_KEYS_FILE || undefined,
    root: dirname(dirname(dirname(fileURLToPath(import.meta.url)))),
    env,
  };
}
