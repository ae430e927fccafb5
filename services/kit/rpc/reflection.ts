// grpc.reflection v1 and v1alpha over the committed descriptor image. An own service, because @grpc/reflection breaks
// on references across packages. Answers hold the transitive closure of a file's imports, the file itself first.
import { readFileSync } from 'node:fs';
import { fromJson, toBinary } from '@bufbuild/protobuf';
import {
  type DescriptorProto,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService as V1,
} from '#gen/grpc/reflection/v1/reflection.ts';
import { ServerReflectionService as V1Alpha } from '#gen/grpc/reflection/v1alpha/reflection.ts';
import { type CallContext, defineService, type Out, type ServiceRegistration } from './service.ts';
import { grpcNumber } from './status.ts';

const IMAGE = new URL('../../gen/image.json', import.meta.url);

type Index = { byName: Map<string, FileDescriptorProto>; bySymbol: Map<string, FileDescriptorProto> };

let cachedSet: FileDescriptorSet | null = null;
let cachedIndex: Index | null = null;

function image(): FileDescriptorSet {
  cachedSet ??= fromJson(FileDescriptorSetSchema, JSON.parse(readFileSync(IMAGE, 'utf8')));
  return cachedSet;
}

/** Every proto of the mesh as a serialized google.protobuf.FileDescriptorSet, for @grpc/proto-loader's loadFileDescriptorSetFromBuffer. */
export function descriptorSet(): Uint8Array {
  return toBinary(FileDescriptorSetSchema, image());
}

function addMessage(index: Index, file: FileDescriptorProto, scope: string, message: DescriptorProto): void {
  const name = `${scope}${message.name}`;
  index.bySymbol.set(name, file);
  for (const field of [...message.field, ...message.extension]) index.bySymbol.set(`${name}.${field.name}`, file);
  for (const oneof of message.oneofDecl) index.bySymbol.set(`${name}.${oneof.name}`, file);
  for (const enumeration of message.enumType) index.bySymbol.set(`${name}.${enumeration.name}`, file);
  for (const nested of message.nestedType) addMessage(index, file, `${name}.`, nested);
}

function buildIndex(): Index {
  const index: Index = { byName: new Map(), bySymbol: new Map() };
  for (const file of image().file) {
    const scope = file.package === '' ? '' : `${file.package}.`;
    index.byName.set(file.name, file);
    for (const message of file.messageType) addMessage(index, file, scope, message);
    for (const enumeration of file.enumType) {
      index.bySymbol.set(`${scope}${enumeration.name}`, file);
      for (const value of enumeration.value) index.bySymbol.set(`${scope}${value.name}`, file); // siblings of the enum, as in C++
    }
    for (const extension of file.extension) index.bySymbol.set(`${scope}${extension.name}`, file);
    for (const service of file.service) {
      index.bySymbol.set(`${scope}${service.name}`, file);
      for (const method of service.method) index.bySymbol.set(`${scope}${service.name}.${method.name}`, file);
    }
  }
  return index;
}

function closure(index: Index, first: FileDescriptorProto): Buffer[] {
  const files = new Set([first]);
  for (const file of files) {
    for (const name of file.dependency) {
      const dependency = index.byName.get(name);
      if (dependency) files.add(dependency); // a Set yields what is added while it is walked
    }
  }
  return [...files].map((file) => Buffer.from(toBinary(FileDescriptorProtoSchema, file)));
}

type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;

function notFound(what: string): Answer {
  const value = { errorCode: grpcNumber('NOT_FOUND'), errorMessage: `reflection: ${what} is not known here` };
  return { $case: 'errorResponse', value };
}

function answer(request: ServerReflectionRequest['messageRequest'], services: readonly string[]): Answer {
  if (request?.$case === 'listServices') {
    return { $case: 'listServicesResponse', value: { service: services.map((name) => ({ name })) } };
  }
  if (request?.$case === 'fileByFilename' || request?.$case === 'fileContainingSymbol') {
    cachedIndex ??= buildIndex();
    const by = request.$case === 'fileByFilename' ? cachedIndex.byName : cachedIndex.bySymbol;
    const file = by.get(request.value.replace(/^\./, ''));
    if (!file) return notFound(`"${request.value}"`);
    return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto: closure(cachedIndex, file) } };
  }
  if (request?.$case === 'allExtensionNumbersOfType') {
    cachedIndex ??= buildIndex();
    if (!cachedIndex.bySymbol.has(request.value)) return notFound(`"${request.value}"`);
    return { $case: 'allExtensionNumbersResponse', value: { baseTypeName: request.value, extensionNumber: [] } };
  }
  if (request?.$case === 'fileContainingExtension') {
    return notFound(`extension ${request.value.extensionNumber} of "${request.value.containingType}"`);
  }
  const message = 'reflection: the request is empty; set list_services, file_by_filename or file_containing_symbol';
  return { $case: 'errorResponse', value: { errorCode: grpcNumber('INVALID_ARGUMENT'), errorMessage: message } };
}

/** Both reflection services over the given service names. */
export function reflectionServices(services: readonly string[]): ServiceRegistration[] {
  const names = [...services, 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'];
  async function serverReflectionInfo(
    incoming: AsyncIterable<ServerReflectionRequest>,
    _call: CallContext,
    out: Out<ServerReflectionResponse>,
  ): Promise<void> {
    for await (const request of incoming) {
      const messageResponse = answer(request.messageRequest, names);
      const flushed = out.write({ validHost: request.host, originalRequest: request, messageResponse });
      if (!flushed) await out.drained();
    }
  }
  return [
    defineService(V1, { serverReflectionInfo }, { background: true }),
    defineService(V1Alpha, { serverReflectionInfo }, { background: true }),
  ];
}
