/** `quern call SERVICE/METHOD JSON`: any method, without generated code. */
import { text as readAll } from 'node:stream/consumers';
import { QuernError } from '#kit/errors.ts';
import type { Command } from '../command.ts';
import { GATEWAY_OPTIONS, gatewayAddress } from '../gateway-client.ts';
import { parseOptions, wholeNumber } from '../options.ts';
import { textFor } from '../terminal-text.ts';
import { runningMeshes } from '../up/mesh-folder.ts';

export const call: Command = {
  help: `usage: quern call [options] SERVICE/METHOD [JSON]
       quern call --list

Calls a method by name with a JSON message (or standard input when JSON is "-") and prints each response as JSON.
SERVICE may be short: ModelService/ListModels. Field names are those of the .proto files, or the same in camelCase; one
that the message does not have is refused. A method that takes a stream takes a JSON array of messages.

  --list             every method
  --address ADDR     what to call: HOST:PORT or unix:///PATH of any service (default: the gateway at
                     QUERN_GATEWAY, else of the running mesh of this state folder, else at 127.0.0.1:50051); --gateway is the same
  --timeout-ms N     deadline of the call (default 60000)
  --ca FILE          CAs of a mesh that speaks TLS (https://HOST:PORT; default: QUERN_GATEWAY_CA_FILE)
  --api-key KEY      (default: QUERN_API_KEY)`,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, {
      ...GATEWAY_OPTIONS,
      address: { type: 'string' },
      'timeout-ms': { type: 'string' },
      list: { type: 'boolean' },
    });
    const { callDynamic, listMethods } = await import('../rpc/dynamic-client.ts');
    if (values.list) {
      for (const [service, methods] of listMethods())
        io.stdout.write(methods.map((method) => `${service}/${method}\n`).join(''));
      return 0;
    }
    const [path, json = '{}', ...rest] = positionals;
    if (path === undefined || rest.length > 0) {
      throw new QuernError(
        'INVALID_ARGUMENT',
        'expected SERVICE/METHOD and one JSON message; quern call --list shows all methods',
      );
    }
    const body = parseJson(json === '-' ? await readAll(io.stdin) : json);
    const timeoutMs = wholeNumber('timeout-ms', values['timeout-ms'], 60_000, 1, 3_600_000);
    const option = values.address === undefined ? '--gateway' : '--address';
    for await (const response of callDynamic(path, body, {
      ...gatewayAddress({ ...values, gateway: values.address ?? values.gateway }, io, option),
      timeoutMs,
      signal: io.signal,
      running: () => runningMeshes(io.config.runtimeParents),
    })) {
      io.stdout.write(`${textFor(io.stdout, JSON.stringify(response, null, io.stdout.isTTY ? 2 : undefined))}\n`);
    }
    return 0;
  },
};

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new QuernError('INVALID_ARGUMENT', `the message is not JSON: ${(error as Error).message}`);
  }
}
