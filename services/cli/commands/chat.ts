/** `quern chat`: an interactive conversation, or one answer. */
import { createInterface } from 'node:readline/promises';
import type { StreamChatRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import type { Command, Io } from '../command.ts';
import { didYouMean } from '../did-you-mean.ts';
import { connect, GATEWAY_OPTIONS, type GatewayClient } from '../gateway-client.ts';
import { parseOptions } from '../options.ts';
import { printStream } from '../print-stream.ts';
import { SAMPLING_OPTIONS, samplingFrom, samplingHelp } from '../sampling-options.ts';
import { textFor } from '../terminal-text.ts';

const DEFAULTS = { maxTokens: 256 };

export const chat: Command = {
  help: `usage: quern chat [options] [MESSAGE]

With MESSAGE: one answer. Without: a conversation; each line of input is a turn. Lines that begin with "/" are commands:
/help lists them, /clear forgets what was said, /exit or Ctrl-D ends. Ctrl-C stops the running answer.

${samplingHelp(DEFAULTS)}
  --system TEXT      system message
  --quiet            no greeting, no figures`,
  ownsSignals: true,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, {
      ...GATEWAY_OPTIONS,
      ...SAMPLING_OPTIONS,
      system: { type: 'string' },
      quiet: { type: 'boolean' },
    });
    const system = values.system === undefined ? [] : [message(Role.ROLE_SYSTEM, values.system)];
    const settings = { values, sampling: samplingFrom(values, DEFAULTS), quiet: values.quiet ?? false };
    const gateway = connect(values, io);
    try {
      if (positionals.length > 0) {
        await answer(
          [...system, message(Role.ROLE_USER, positionals.join(' '))],
          settings,
          gateway,
          io,
          onceInterrupted(),
        );
        return 0;
      }
      return await converse(system, settings, gateway, io);
    } finally {
      gateway.close();
    }
  },
};

type Settings = {
  values: { model?: string | undefined; stop?: string[] | undefined };
  sampling: NonNullable<StreamChatRequest['request']>['sampling'];
  quiet: boolean;
};

const HELP = `/help   this list
/clear  forget what was said; the system message stays
/exit   end; so does Ctrl-D
Everything else is sent to the model; a space in front sends a line that begins with "/". Ctrl-C stops an answer.
`;

/** What a line of input means. An unknown command is never sent to the model. */
export function readLine(line: string): { kind: 'exit' | 'clear' | 'help' | 'nothing' } | Said | Unknown {
  const [word = ''] = line.trim().split(/\s+/);
  if (word === '') return { kind: 'nothing' };
  if (!line.startsWith('/')) return { kind: 'say', text: line.startsWith(' /') ? line.slice(1) : line };
  if (word === '/exit' || word === '/quit') return { kind: 'exit' };
  if (word === '/clear' || word === '/reset') return { kind: 'clear' };
  if (word === '/help' || word === '/?') return { kind: 'help' };
  return {
    kind: 'unknown',
    message: `no command "${word}"${didYouMean(word, ['/help', '/clear', '/exit'])} (/help lists all)`,
  };
}

type Said = { kind: 'say'; text: string };
type Unknown = { kind: 'unknown'; message: string };

async function converse(system: ChatMessage[], settings: Settings, gateway: GatewayClient, io: Io): Promise<number> {
  const model = await chatModel(settings.values.model, gateway, io);
  const interactive = io.stdin.isTTY === true;
  const lines = createInterface({ input: io.stdin, output: interactive ? io.stdout : undefined, prompt: '> ' });
  let history = [...system];
  let running: AbortController | undefined;
  lines.on('SIGINT', () => (running === undefined ? lines.close() : running.abort()));
  if (!settings.quiet) {
    io.stderr.write(
      `${model} at ${gateway.address}. Each line is a turn; /help lists the commands, /exit or Ctrl-D ends.\n`,
    );
  }
  if (interactive) lines.prompt();
  for await (const line of lines) {
    const input = readLine(line);
    if (input.kind === 'exit') break;
    if (input.kind === 'help') io.stderr.write(HELP);
    else if (input.kind === 'unknown') io.stderr.write(`${input.message}\n`);
    else if (input.kind === 'clear') {
      history = [...system];
      io.stderr.write('forgotten\n');
    } else if (input.kind === 'say') {
      history.push(message(Role.ROLE_USER, input.text));
      running = new AbortController();
      try {
        history.push(message(Role.ROLE_ASSISTANT, await answer(history, settings, gateway, io, running.signal)));
      } catch (error) {
        history.pop();
        if (running.signal.aborted) io.stderr.write('[stopped; this turn is forgotten]\n');
        else if (interactive)
          io.stderr.write(
            `${textFor(io.stderr, (error as Error).message)}\n[this turn is forgotten; /clear forgets all]\n`,
          );
        else throw error;
      }
      running = undefined;
    }
    if (interactive) lines.prompt();
  }
  lines.close();
  return 0;
}

/** The model that will answer, known before the first line is typed. */
async function chatModel(wanted: string | undefined, gateway: GatewayClient, io: Io): Promise<string> {
  const { models } = await gateway.listModels({ signal: io.signal });
  const names = models.map(({ name }) => `"${name}"`).join(', ');
  const model = wanted === undefined ? models[0] : models.find(({ name }) => name === wanted);
  if (model === undefined) throw new QuernError('NOT_FOUND', `no model "${wanted}" here; served: ${names}`);
  if (wanted === undefined && models.length > 1) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `the mesh serves ${models.length} models (${names}); choose one with --model`,
    );
  }
  if (!model.chat) {
    throw new QuernError(
      'FAILED_PRECONDITION',
      `${model.name} has no chat template; use quern complete, or another --model`,
    );
  }
  return model.name;
}

async function answer(
  messages: ChatMessage[],
  settings: Settings,
  gateway: GatewayClient,
  io: Io,
  signal: AbortSignal,
): Promise<string> {
  const request: StreamChatRequest = {
    request: {
      model: settings.values.model ?? '',
      messages,
      tools: [],
      sampling: settings.sampling,
      stop: settings.values.stop ?? [],
      options: undefined,
      templateVariables: undefined,
    },
  };
  const { text, figures } = await printStream(gateway.streamChat(request, { signal }), io.stdout);
  io.stdout.write('\n');
  if (!settings.quiet) io.stderr.write(textFor(io.stderr, figures));
  return text;
}

function onceInterrupted(): AbortSignal {
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  process.once('SIGTERM', () => stop.abort());
  return stop.signal;
}

function message(role: Role, content: string): ChatMessage {
  return { role, content, reasoningContent: '', name: '', toolCalls: [], toolCallId: '' };
}
