/** `quern complete`: one streamed completion. */
import { text as readAll } from 'node:stream/consumers';
import type { RequestEnd, StreamCompleteRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { Command } from '../command.ts';
import { connect, GATEWAY_OPTIONS } from '../gateway-client.ts';
import { parseOptions } from '../options.ts';
import { SAMPLING_HELP, SAMPLING_OPTIONS, samplingFrom } from '../sampling-options.ts';
import { describeEnd } from '../timings.ts';

export const complete: Command = {
  help: `usage: quern complete [options] [PROMPT]

Continues PROMPT (or standard input) and prints the text as it comes; figures go to standard error.

${SAMPLING_HELP}
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
        sampling: samplingFrom(values, { maxTokens: 64, temperature: 0 }),
        stop: values.stop ?? [],
        options: undefined,
        echo: values.echo ?? false,
      },
    };
    const gateway = connect(values, io);
    const started = performance.now();
    let firstMs: number | undefined;
    let end: RequestEnd | undefined;
    try {
      for await (const { event } of gateway.streamComplete(request, { signal: io.signal })) {
        if (event?.$case === 'delta') {
          firstMs ??= performance.now() - started;
          io.stdout.write(event.value.text);
        } else if (event?.$case === 'end') end = event.value;
      }
    } finally {
      gateway.close();
    }
    io.stdout.write('\n');
    if (!values.quiet && end !== undefined) io.stderr.write(`${describeEnd(end, firstMs)}\n`);
    return 0;
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
