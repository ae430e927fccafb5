/** `quern trace`: where the time of one request went, without a trace backend. */
import { QuernError } from '#kit/errors.ts';
import type { Command } from '../command.ts';
import { connect, GATEWAY_OPTIONS } from '../gateway-client.ts';
import { parseOptions } from '../options.ts';
import { textFor } from '../terminal-text.ts';
import { formatWaterfall } from '../waterfall.ts';

export const trace: Command = {
  help: `usage: quern trace REQUEST_ID [--json] [--gateway [https://]HOST:PORT] [--ca FILE] [--api-key KEY]

Shows the stages of a running or recent request below one another: admission, tokenizer, routing, queue, prefill, decode;
how much of the prompt was in the cache, how fast the tokens came, and why it was shed or failed. The gateway remembers the
last few thousand requests of its own run. You see your own; with an admin's key, those of your tenant. The request id stands
in each answer (x-request-id over HTTP) and at the end of the figures that quern complete prints; "cmpl-ID" and "chatcmpl-ID",
the ids of HTTP answers, name the same request. Of an agent run it shows turns and calls; RUN_ID:0 shows the stages of its
first turn, RUN_ID:1 those of the second, RUN_ID:1.0.0 the first turn of the run that the second turn's first call started.

  --json   the answer of RequestService.Explain`,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, { ...GATEWAY_OPTIONS, json: { type: 'boolean' } });
    const [requestId, ...more] = positionals;
    if (requestId === undefined || more.length > 0) {
      throw new QuernError(
        'INVALID_ARGUMENT',
        `expected one request id, got ${positionals.length}: quern trace REQUEST_ID`,
      );
    }
    const gateway = connect(values, io);
    try {
      const answer = await gateway.explain({ requestId }, { signal: io.signal });
      const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value);
      const text = values.json ? `${JSON.stringify(answer, plain, 2)}\n` : formatWaterfall(answer);
      io.stdout.write(textFor(io.stdout, text));
      return 0;
    } finally {
      gateway.close();
    }
  },
};
