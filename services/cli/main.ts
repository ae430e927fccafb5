/** `quern <command>`: finds the command, runs it, turns any failure into one sentence and an exit code. */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { toQuernError } from '#kit/errors.ts';
import type { Command, Io } from './command.ts';
import { readCliConfig } from './config.ts';
import { didYouMean } from './did-you-mean.ts';
import { textFor } from './terminal-text.ts';

const COMMANDS: Record<string, { summary: string; load: () => Promise<Command> }> = {
  up: { summary: 'start the mesh on this machine', load: async () => (await import('./commands/up.ts')).up },
  complete: { summary: 'complete a prompt', load: async () => (await import('./commands/complete.ts')).complete },
  infill: { summary: 'fill in at FILE:LINE[:COL]', load: async () => (await import('./commands/infill.ts')).infill },
  chat: { summary: 'talk to a model', load: async () => (await import('./commands/chat.ts')).chat },
  agent: {
    summary: 'give a task to a model with tools',
    load: async () => (await import('./commands/agent.ts')).agent,
  },
  models: { summary: 'list the served models', load: async () => (await import('./commands/models.ts')).models },
  call: {
    summary: 'call any method: SERVICE/METHOD JSON',
    load: async () => (await import('./commands/call.ts')).call,
  },
  trace: {
    summary: 'show where the time of a request went',
    load: async () => (await import('./commands/trace.ts')).trace,
  },
  keys: { summary: 'create, list, revoke API keys', load: async () => (await import('./commands/keys.ts')).keys },
  audit: {
    summary: 'who asked what; verify, export, erase',
    load: async () => (await import('./commands/audit.ts')).audit,
  },
  tools: {
    summary: 'what models may run; run it in the sandbox',
    load: async () => (await import('./commands/tools.ts')).tools,
  },
  bench: { summary: 'measure a running mesh', load: async () => (await import('./commands/bench.ts')).bench },
  eval: {
    summary: 'measure how good a served model is',
    load: async () => (await import('./commands/eval.ts')).evaluate,
  },
  doctor: {
    summary: 'say what is missing or slow here',
    load: async () => (await import('./commands/doctor.ts')).doctor,
  },
};

function overview(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  quern ${name.padEnd(width)}  ${summary}`);
  return [
    'usage: quern <command> [options]',
    '',
    ...lines,
    '',
    'quern <command> --help tells the options, quern --version the version.',
    '',
  ].join('\n');
}

// Of what a library does, nobody at a terminal can do anything about; the services, which are other processes, still warn.
process.noDeprecation = true;

let endsBySignal = false;
let readerGone = false;

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

async function main(argv: string[]): Promise<number> {
  // "quern help eval" is "quern eval --help".
  const [name, ...args] = argv[0] === 'help' && argv[1] !== undefined ? [argv[1], '--help'] : argv;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(overview());
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === '-V') {
    process.stdout.write(`quern ${version()}\n`);
    return 0;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (entry === undefined) {
    const names = Object.keys(COMMANDS);
    process.stderr.write(
      `quern: no command "${name}"; expected one of ${names.join(', ')}${didYouMean(name, names)}\n`,
    );
    return 2;
  }
  const command = await entry.load();
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(`${command.help}\n`);
    return 0;
  }
  const stop = new AbortController();
  const io: Io = {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: stop.signal,
    config: readCliConfig(process.env),
  };
  endsBySignal = command.ownsSignals ?? false;
  if (!command.ownsSignals) {
    const interrupt = (): void => {
      if (stop.signal.aborted) process.exit(130);
      stop.abort();
    };
    process.on('SIGINT', interrupt);
    process.on('SIGTERM', interrupt);
  }
  return command.run(args, io);
}

// A reader that went away (`quern models | head -1`) ends the command; it is no failure of ours. A command with signals
// of its own has children or a conversation to end first.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (!endsBySignal) process.exit(error.code === 'EPIPE' ? 0 : 1);
  if (!readerGone) process.kill(process.pid, 'SIGTERM');
  readerGone = true;
});

// The launcher holds an ipc channel so that it can tell us when it dies; it must not keep a finished command alive.
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
process.channel?.unref();

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (thrown) {
  const error = toQuernError(thrown);
  if (error.code === 'CANCELLED') {
    process.exitCode = 130;
  } else {
    const who = error.message.startsWith('quern ') ? '' : 'quern: '; // some begin with the command's own name
    process.stderr.write(`${who}${textFor(process.stderr, error.message)}\n`);
    if (error.code === 'INTERNAL' && error.cause instanceof Error) process.stderr.write(`${error.cause.stack}\n`);
    process.exitCode = error.code === 'INVALID_ARGUMENT' ? 2 : 1;
  }
}
