/** `quern models`: what a running mesh serves. */
import type { Model } from '#gen/quern/gateway/v1/gateway.ts';
import type { Command } from '../command.ts';
import { connect, GATEWAY_OPTIONS } from '../gateway-client.ts';
import { parseOptions } from '../options.ts';
import { formatTable } from '../table.ts';

export const models: Command = {
  help: `usage: quern models [--json] [--gateway [https://]HOST:PORT] [--ca FILE] [--api-key KEY]

Lists the models that the mesh serves: context length in tokens, parameters, weight type, backend, and what each can do.`,
  async run(args, io) {
    const { values } = parseOptions(args, { ...GATEWAY_OPTIONS, json: { type: 'boolean' } });
    const gateway = connect(values, io);
    try {
      const { models: served } = await gateway.listModels({ signal: io.signal });
      if (values.json) {
        io.stdout.write(
          `${JSON.stringify(served, (_, value) => (typeof value === 'bigint' ? Number(value) : value), 2)}\n`,
        );
        return 0;
      }
      const rows = served.map((model) => [
        model.name,
        model.ready ? 'ready' : 'not ready',
        String(model.contextLength),
        parameters(model.parameterCount),
        model.dtype,
        [model.backend, model.isa].filter(Boolean).join(' '),
        abilities(model),
      ]);
      io.stdout.write(formatTable(['model', 'state', 'context', 'parameters', 'type', 'backend', 'can'], rows));
      return 0;
    } finally {
      gateway.close();
    }
  },
};

function abilities({ chat, toolParser, reasoningParser, fimFamily }: Model): string {
  const all = [
    chat ? 'chat' : '',
    toolParser && `tools (${toolParser})`,
    reasoningParser && `reasoning (${reasoningParser})`,
    fimFamily && `infill (${fimFamily})`,
  ];
  return all.filter(Boolean).join(', ') || 'completion';
}

function parameters(count: bigint): string {
  const millions = Number(count) / 1e6;
  return millions >= 1000 ? `${(millions / 1000).toFixed(1)} B` : `${millions.toFixed(1)} M`;
}
