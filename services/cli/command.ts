/** What a command is: help text and one function from arguments to an exit code. */
import type { CliConfig } from './config.ts';

export type Io = {
  stdin: NodeJS.ReadStream;
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
  /** Aborted by Ctrl-C or SIGTERM, unless the command owns its signals. */
  signal: AbortSignal;
  config: CliConfig;
};

export type Command = {
  help: string;
  /** The command handles SIGINT and SIGTERM itself. */
  ownsSignals?: boolean;
  run: (args: string[], io: Io) => Promise<number>;
};
