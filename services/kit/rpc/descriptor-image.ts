// Every proto of the mesh as descriptors, from the committed image. Loaded by the first who asks: the library and the image are
// 9 MiB of memory.
import { readFileSync } from 'node:fs';
import { fromJson, toBinary } from '@bufbuild/protobuf';
import {
  type DescriptorProto,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';

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

/** The file of that name, or the one that declares the symbol, with all that it imports: itself first. Null: there is none. */
export function filesOf(by: 'name' | 'symbol', what: string): Buffer[] | null {
  cachedIndex ??= buildIndex();
  const file = (by === 'name' ? cachedIndex.byName : cachedIndex.bySymbol).get(what);
  return file ? closure(cachedIndex, file) : null;
}
