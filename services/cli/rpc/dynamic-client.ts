/** Calls any method of any service of ours by name, with JSON in and JSON out; built from the descriptor image at run time. */
import * as grpc from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import { QuernError } from '#kit/errors.ts';
import type { ClientTls } from '#kit/rpc/client.ts';
import { descriptorSet } from '#kit/rpc/descriptor-image.ts';
import { fromServiceError } from '#kit/rpc/status.ts';
import { didYouMean } from '../did-you-mean.ts';
import { explainFailure } from '../failures.ts';
import type { MeshRecord } from '../up/mesh-folder.ts';
import { encodeRequest } from './json-message.ts';

type Method = MethodDefinition<object, object>;

/** Every service with its methods, `package.Service` → method names. */
export function listMethods(): Map<string, string[]> {
  const services = new Map<string, string[]>();
  for (const [name, definition] of Object.entries(load())) {
    if (isService(definition)) services.set(name, Object.keys(definition));
  }
  return services;
}

/**
 * Calls `path` (`quern.gateway.v1.ModelService/ListModels`, or the unqualified service name when it is unambiguous) and
 * yields each response. Client streams take a JSON array of messages. Errors come as QuernError.
 */
export async function* callDynamic(
  path: string,
  body: unknown,
  options: {
    address: string;
    source: string;
    apiKey: string | undefined;
    tls: ClientTls | undefined;
    timeoutMs: number;
    signal: AbortSignal;
    running: () => MeshRecord[];
  },
): AsyncGenerator<object> {
  const { service, name, method } = findMethod(path);
  const client = new grpc.Client(options.address, channelCredentials(options.tls));
  const metadata = new grpc.Metadata();
  if (options.apiKey !== undefined) metadata.set('authorization', `Bearer ${options.apiKey}`);
  const deadline = Date.now() + options.timeoutMs;
  const serialize = (message: object): Buffer => Buffer.from(encodeRequest(service, name, message));
  try {
    const messages = method.requestStream ? asArray(path, body) : [asObject(path, body)];
    for (const message of messages) encodeRequest(service, name, message); // all of them, before any is sent
    const call = client.makeBidiStreamRequest(method.path, serialize, method.responseDeserialize, metadata, {
      deadline,
    });
    const cancel = (): void => call.cancel();
    options.signal.addEventListener('abort', cancel, { once: true });
    for (const message of messages) call.write(message);
    call.end();
    try {
      for await (const response of call) yield response as object;
    } finally {
      options.signal.removeEventListener('abort', cancel);
      call.cancel();
    }
  } catch (error) {
    const failure = error instanceof QuernError ? error : fromServiceError(error as grpc.ServiceError);
    throw explainFailure(failure, {
      address: options.address,
      source: options.source,
      tls: options.tls !== undefined,
      running: options.running,
      method: `${service}/${name}`,
    });
  } finally {
    client.close();
  }
}

function channelCredentials(tls: ClientTls | undefined): grpc.ChannelCredentials {
  if (tls === undefined) return grpc.credentials.createInsecure();
  return grpc.credentials.createSsl(tls.ca === undefined ? null : Buffer.from(tls.ca));
}

function load() {
  return loadFileDescriptorSetFromBuffer(Buffer.from(descriptorSet()), {
    keepCase: true,
    longs: String,
    enums: String,
    bytes: String,
    defaults: false,
    oneofs: true,
  });
}

function isService(definition: object): definition is ServiceDefinition {
  const [first] = Object.values(definition) as { path?: unknown }[];
  return first !== undefined && typeof first.path === 'string';
}

function findMethod(path: string): { service: string; name: string; method: Method } {
  const [serviceName = '', name = ''] = path.replace(/^\//, '').split('/');
  const services = Object.entries(load()).filter((entry): entry is [string, ServiceDefinition] => isService(entry[1]));
  const matches = services.filter(([full]) => full === serviceName || full.endsWith(`.${serviceName}`));
  const [match] = matches;
  if (match === undefined || matches.length > 1) {
    const among = (matches.length > 1 ? matches : services).map(([full]) => full);
    const short = among.map((full) => full.slice(full.lastIndexOf('.') + 1));
    const message = `expected one of the services ${(matches.length > 1 ? among : [...new Set(short)]).join(', ')}; got "${serviceName}"`;
    const hint = matches.length > 1 ? '' : didYouMean(serviceName, [...short, ...among]);
    throw new QuernError('INVALID_ARGUMENT', message + hint);
  }
  const [service, methods] = match;
  const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
  if (method === undefined) {
    const names = Object.keys(methods);
    const wrong = name === '' ? `expected SERVICE/METHOD, got "${path}"` : `${service} has no method "${name}"`;
    const message = `${wrong}; it has ${names.join(', ')}`;
    throw new QuernError('INVALID_ARGUMENT', message + didYouMean(name, names));
  }
  return { service, name, method: method as Method };
}

function asObject(path: string, body: unknown): object {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `${path} takes one message: expected a JSON object, got ${JSON.stringify(body).slice(0, 80)}`,
    );
  }
  return body;
}

function asArray(path: string, body: unknown): object[] {
  if (!Array.isArray(body))
    throw new QuernError('INVALID_ARGUMENT', `${path} takes a stream: expected a JSON array of messages`);
  return body.map((each) => asObject(path, each));
}
