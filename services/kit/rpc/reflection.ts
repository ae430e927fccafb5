// grpc.reflection v1 and v1alpha over the committed descriptor image. An own service, because @grpc/reflection breaks
// on references across packages. Answers hold the transitive closure of a file's imports, the file itself first.
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService as V1,
} from '#gen/grpc/reflection/v1/reflection.ts';
import { ServerReflectionService as V1Alpha } from '#gen/grpc/reflection/v1alpha/reflection.ts';
import { type CallContext, defineService, type Out, type ServiceRegistration } from './service.ts';
import { grpcNumber } from './status.ts';

type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;

function notFound(what: string): Answer {
  const value = { errorCode: grpcNumber('NOT_FOUND'), errorMessage: `reflection: ${what} is not known here` };
  return { $case: 'errorResponse', value };
}

async function answer(
  request: ServerReflectionRequest['messageRequest'],
  services: readonly string[],
): Promise<Answer> {
  if (request?.$case === 'listServices') {
    return { $case: 'listServicesResponse', value: { service: services.map((name) => ({ name })) } };
  }
  if (request?.$case === 'fileByFilename' || request?.$case === 'fileContainingSymbol') {
    const { filesOf } = await import('./descriptor-image.ts');
    const fileDescriptorProto = filesOf(
      request.$case === 'fileByFilename' ? 'name' : 'symbol',
      request.value.replace(/^\./, ''),
    );
    if (!fileDescriptorProto) return notFound(`"${request.value}"`);
    return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  }
  if (request?.$case === 'allExtensionNumbersOfType') {
    const { filesOf } = await import('./descriptor-image.ts');
    if (!filesOf('symbol', request.value)) return notFound(`"${request.value}"`);
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
      const messageResponse = await answer(request.messageRequest, names);
      const flushed = out.write({ validHost: request.host, originalRequest: request, messageResponse });
      if (!flushed) await out.drained();
    }
  }
  return [
    defineService(V1, { serverReflectionInfo }, { background: true }),
    defineService(V1Alpha, { serverReflectionInfo }, { background: true }),
  ];
}
