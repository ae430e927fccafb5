/** Calls any method of any service of ours by name, with JSON in and JSON out; built from the descriptor image at run time. */
import * as grpc from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import { QuernError } from '#kit/errors.ts';
import { descriptorSet } from '#kit/rpc/reflection.ts';
import { fromServiceError } from '#kit/rpc/status.ts';

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
  options: { address: string; apiKey: string | undefined; timeoutMs: number; signal: AbortSignal },
): AsyncGenerator<object> {
  const method = findMethod(path);
  const client = new grpc.Client(options.address, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  if (options.apiKey !== undefined) metadata.set('authorization', `Bearer ${options.apiKey}`);
  const deadline = Date.now() + options.timeoutMs;
  const serialize = (message: object): Buffer => method.requestSerialize(message);
  try {
    const messages = method.requestStream ? asArray(path, body) : [asObject(path, body)];
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
    throw error instanceof QuernError ? error : fromServiceError(error as grpc.ServiceError);
  } finally {
    client.close();
  }
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

function findMethod(path: string): Method {
  const [serviceName = '', methodName = ''] = path.replace(/^\//, '').split('/');
  const services = Object.entries(load()).filter((entry): entry is [string, ServiceDefinition] => isService(entry[1]));
  const matches = services.filter(([name]) => name === serviceName || name.endsWith(`.${serviceName}`));
  const [match] = matches;
  if (match === undefined || matches.length > 1) {
    const names = (matches.length > 1 ? matches : services).map(([name]) => name);
    throw new QuernError('INVALID_ARGUMENT', `expected one of the services ${names.join(', ')}; got "${serviceName}"`);
  }
  const method = match[1][methodName];
  if (method === undefined) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `${match[0]} has no method "${methodName}"; it has ${Object.keys(match[1]).join(', ')}`,
    );
  }
  return method as Method;
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
