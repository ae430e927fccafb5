import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { credentials, type GrpcObject, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionClient as V1,
} from '#gen/grpc/reflection/v1/reflection.ts';
import { ServerReflectionClient as V1Alpha } from '#gen/grpc/reflection/v1alpha/reflection.ts';
import { EngineServiceService } from '#gen/quern/engine/v1/engine.ts';
import { openChannel } from '#kit/rpc/client.ts';
import { descriptorSet } from '#kit/rpc/descriptor-image.ts';
import { bidi } from '../../support/bidi.ts';
import { startEcho } from './support/echo.ts';

type Ask = NonNullable<ServerReflectionRequest['messageRequest']>;

async function ask(address: string, Client: typeof V1, ...requests: Ask[]): Promise<ServerReflectionResponse[]> {
  const client = openChannel(Client, { address });
  try {
    const stream = bidi(client, 'serverReflectionInfo');
    for (const messageRequest of requests) stream.write({ host: 'h', messageRequest });
    stream.end();
    const answers: ServerReflectionResponse[] = [];
    for await (const answer of stream.responses) answers.push(answer);
    return answers;
  } finally {
    client.close();
  }
}

function files(answer: ServerReflectionResponse | undefined) {
  assert.equal(answer?.messageResponse?.$case, 'fileDescriptorResponse');
  const { value } = answer.messageResponse as Extract<
    typeof answer.messageResponse,
    { $case: 'fileDescriptorResponse' }
  >;
  return value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

for (const [version, Client] of [
  ['v1', V1],
  ['v1alpha', V1Alpha as unknown as typeof V1],
] as const) {
  test(`${version} lists the services`, async (t) => {
    const { address } = await startEcho(t);
    const [answer] = await ask(address, Client, { $case: 'listServices', value: '' });
    assert.equal(answer?.messageResponse?.$case, 'listServicesResponse');
    assert.deepEqual(
      answer.messageResponse.value.service.map(({ name }) => name),
      [
        'quern.test.v1.EchoService',
        'grpc.health.v1.Health',
        'grpc.reflection.v1.ServerReflection',
        'grpc.reflection.v1alpha.ServerReflection',
      ],
    );
  });

  test(`${version} answers a symbol with its file first and every file it refers to, across packages`, async (t) => {
    const { address } = await startEcho(t);
    const symbols = [
      'quern.engine.v1.EngineService',
      'quern.engine.v1.EngineService.Session',
      '.quern.common.v1.SamplingParams',
    ];
    const answers = await ask(
      address,
      Client,
      ...symbols.map((value): Ask => ({ $case: 'fileContainingSymbol', value })),
    );
    const names = answers.map((answer) => files(answer).map((file) => file.name));
    assert.equal(names[0]![0], 'quern/engine/v1/engine.proto');
    assert.ok(names[0]!.includes('quern/common/v1/common.proto') && names[0]!.includes('google/rpc/status.proto'));
    assert.ok(names[0]!.includes('google/protobuf/any.proto'), 'what a dependency depends on');
    assert.deepEqual(names[1], names[0]);
    assert.equal(names[2]![0], 'quern/common/v1/common.proto');
    for (const answer of answers) {
      const all = files(answer);
      const known = new Set(all.map((file) => file.name));
      for (const file of all) for (const dependency of file.dependency) assert.ok(known.has(dependency), dependency);
    }
    const engine = files(answers[0])[0]!;
    const used = engine.messageType.flatMap((message) => message.field.map((field) => field.typeName));
    assert.ok(used.includes('.quern.common.v1.SamplingParams'), 'type names stay absolute');
  });
}

test('files by name, nested names, enum values; unknown ones are errors inside the stream', async (t) => {
  const { address } = await startEcho(t);
  const answers = await ask(
    address,
    V1,
    { $case: 'fileByFilename', value: 'quern/tokenizer/v1/tokenizer.proto' },
    { $case: 'fileContainingSymbol', value: 'grpc.health.v1.HealthCheckResponse.ServingStatus' },
    { $case: 'fileContainingSymbol', value: 'quern.common.v1.PRIORITY_CLASS_INVOKED' },
    { $case: 'fileContainingSymbol', value: 'quern.nope.v1.Nope' },
    { $case: 'fileByFilename', value: '../../etc/passwd' },
    { $case: 'allExtensionNumbersOfType', value: 'quern.common.v1.Usage' },
    { $case: 'fileContainingExtension', value: { containingType: 'quern.common.v1.Usage', extensionNumber: 7 } },
  );
  assert.deepEqual(
    answers.slice(0, 3).map((answer) => files(answer)[0]!.name),
    ['quern/tokenizer/v1/tokenizer.proto', 'grpc/health/v1/health.proto', 'quern/common/v1/common.proto'],
  );
  const kinds = answers.slice(3).map(({ messageResponse: response }) => {
    return response?.$case === 'errorResponse' ? response.value.errorCode : response?.$case;
  });
  assert.deepEqual(kinds, [5, 5, 'allExtensionNumbersResponse', 5]);
  assert.equal(answers[0]!.originalRequest?.messageRequest?.$case, 'fileByFilename');
});

test('reflection can be left out', async (t) => {
  const { address } = await startEcho(t, {}, { reflection: false });
  await assert.rejects(ask(address, V1, { $case: 'listServices', value: '' }), { code: 'UNIMPLEMENTED' });
});

test('descriptorSet feeds @grpc/proto-loader: a dynamic client finds every method of a service', () => {
  const bytes = descriptorSet();
  assert.ok(fromBinary(FileDescriptorSetSchema, bytes).file.length > 5);
  const loaded = loadPackageDefinition(loadFileDescriptorSetFromBuffer(Buffer.from(bytes))) as GrpcObject;
  const at = (object: GrpcObject, ...names: string[]) =>
    names.reduce<GrpcObject>((inner, name) => inner[name] as GrpcObject, object);
  const Engine = at(loaded, 'quern', 'engine', 'v1').EngineService as unknown as ServiceClientConstructor;
  assert.deepEqual(
    Object.values(Engine.service).map(({ path }) => path),
    Object.values(EngineServiceService).map(({ path }) => path),
  );
  new Engine('127.0.0.1:1', credentials.createInsecure()).close();
});
