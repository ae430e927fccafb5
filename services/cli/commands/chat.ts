/** `quern chat`: an interactive conversation, or one answer. */
import { createInterface } from 'node:readline/promises';
import type { RequestEnd, StreamChatRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Command, Io } from '../command.ts';
import { connect, GATEWAY_OPTIONS, type GatewayClient } from '../gateway-client.ts';
import { parseOptions } from '../options.ts';
import { SAMPLING_HELP, SAMPLING_OPTIONS, samplingFrom } from '../sampling-options.ts';
import { describeEnd } from '../timings.ts';

export const chat: Command = {
  help: `usage: quern chat [options] [MESSAGE]

With MESSAGE: one answer. Without: a conversation; each line of input is a turn, /reset forgets, /exit or Ctrl-D ends,
Ctrl-C stops the running answer.

${SAMPLING_HELP}
  --system TEXT      system message
  --quiet            no figures`,
  ownsSignals: true,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, {
      ...GATEWAY_OPTIONS,
      ...SAMPLING_OPTIONS,
      system: { type: 'string' },
      quiet: { type: 'boolean' },
    });
    const system = values.system === undefined ? [] : [message(Role.ROLE_SYSTEM, values.system)];
    const settings = { values, sampling: samplingFrom(values, { maxTokens: 256 }), quiet: values.quiet ?? false };
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

async function converse(system: ChatMessage[], settings: Settings, gateway: GatewayClient, io: Io): Promise<number> {
  const lines = createInterface({ input: io.stdin, output: io.stdin.isTTY ? io.stdout : undefined, prompt: '> ' });
  let history = [...system];
  let running: AbortController | undefined;
  lines.on('SIGINT', () => (running === undefined ? lines.close() : running.abort()));
  if (io.stdin.isTTY) lines.prompt();
  for await (const line of lines) {
    if (line === '/exit') break;
    if (line === '/reset') history = [...system];
    else if (line.trim() !== '') {
      history.push(message(Role.ROLE_USER, line));
      running = new AbortController();
      try {
        history.push(message(Role.ROLE_ASSISTANT, await answer(history, settings, gateway, io, running.signal)));
      } catch (error) {
        history.pop();
        if (!running.signal.aborted) throw error;
        io.stderr.write('[stopped]\n');
      }
      running = undefined;
    }
    if (io.stdin.isTTY) lines.prompt();
  }
  lines.close();
  return 0;
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
  const started = performance.now();
  let firstMs: number | undefined;
  let text = '';
  let end: RequestEnd | undefined;
  for await (const { event } of gateway.streamChat(request, { signal })) {
    if (event?.$case === 'delta') {
      firstMs ??= performance.now() - started;
      text += event.value.text;
      io.stdout.write(event.value.text);
    } else if (event?.$case === 'end') end = event.value;
  }
  io.stdout.write('\n');
  if (!settings.quiet && end !== undefined) io.stderr.write(`${describeEnd(end, firstMs)}\n`);
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
