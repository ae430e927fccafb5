/** `quern complete`: one streamed completion. */
import { text as readAll } from 'node:stream/consumers';
import type { StreamCompleteRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { Command } from '../command.ts';
import { connect, GATEWAY_OPTIONS } from '../gateway-client.ts';
import { parseOptions } from '../options.ts';
import { printStream } from '../print-stream.ts';
import { SAMPLING_OPTIONS, samplingFrom, samplingHelp } from '../sampling-options.ts';
import { textFor } from '../terminal-text.ts';

const DEFAULTS = { maxTokens: 64, temperature: 0 };

export const complete: Command = {
  help: `usage: quern complete [options] [PROMPT]

Continues PROMPT (or standard input) and prints the text as it comes; figures go to standard error.

${samplingHelp(DEFAULTS)}
  --echo             print the prompt first
  --quiet            no figures`,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, {
      ...GATEWAY_OPTIONS,
      ...SAMPLING_OPTIONS,
      echo: { type: 'boolean' },
      quiet: { type: 'boolean' },
    });
    const prompt = positionals.length > 0 ? positionals.join(' ') : await promptFromStdin(io.stdin);
    const request: StreamCompleteRequest = {
      request: {
        model: values.model ?? '',
        prompt: { $case: 'text', value: prompt },
        sampling: samplingFrom(values, DEFAULTS),
        stop: values.stop ?? [],
        options: undefined,
        echo: values.echo ?? false,
      },
    };
    const gateway = connect(values, io);
    try {
      const events = gateway.streamComplete(request, { signal: io.signal });
      const { figures } = await printStream(events, io.stdout);
      io.stdout.write('\n');
      if (!values.quiet) io.stderr.write(textFor(io.stderr, figures));
      return 0;
    } finally {
      gateway.close();
    }
  },
};

async function promptFromStdin(stdin: NodeJS.ReadStream): Promise<string> {
  if (stdin.isTTY)
    throw new QuernError(
      'INVALID_ARGUMENT',
      'expected a prompt: quern complete "def add(a, b):", or text on standard input',
    );
  return readAll(stdin);
}
