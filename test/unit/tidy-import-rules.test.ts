/** The tidy rules about imports: who may import what, and how it is written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  clientCore,
  cppIncludes,
  doors,
  importsOf,
  serviceImports,
  specifierEndings,
  straightColumn,
} from '../tidy/import-rules.ts';
import { breaks, keeps } from './support/rule-checks.ts';

test('imports: every way to name a module, none inside text', () => {
  const text = `
import a from './a.ts';
import type { B } from '#kit/b.ts';
import {
  c,
} from 'c';
import './d.ts';
export * from './e.ts';
const f = await import('./f.ts');
new Worker(new URL('./g.ts', import.meta.url));
join(import.meta.dirname, 'h.ts');
new URL('./data.json', import.meta.url);
const text = "import x from './text.ts'";
// import y from './comment.ts';
`;
  const specifiers = importsOf({ path: 'a.ts', text }).map(({ specifier }) => specifier);
  assert.deepEqual(specifiers.sort(), ['#kit/b.ts', './a.ts', './d.ts', './e.ts', './f.ts', './g.ts', 'c', 'h.ts']);
});

test('specifier-ending: .ts for our own files, whatever a package wants', () => {
  breaks(specifierEndings, 'a.ts', "import { b } from './b.js';", /ends in \.js/);
  breaks(specifierEndings, 'a.ts', "const b = await import('#kit/b.js');", /ends in \.js/);
  keeps(specifierEndings, 'a.ts', "import Ajv from 'ajv/dist/2020.js';\nconst text = \"import './b.js'\";");
});

test('service-import: gen <- kit <- each service, and clients only gen', () => {
  breaks(
    serviceImports,
    'services/gateway/main.ts',
    "import { a } from '../engine/native.ts';",
    /never import one another/,
  );
  breaks(serviceImports, 'services/kit/log.ts', "import { a } from '../gateway/config.ts';", /kit imports only gen/);
  breaks(serviceImports, 'services/gen/a.ts', "import { a } from '#kit/log.ts';", /generated code/);
  breaks(
    serviceImports,
    'clients/lsp/main.ts',
    "import { a } from '../../services/kit/log.ts';",
    /clients import services\/gen/,
  );
  breaks(serviceImports, 'services/engine/main.ts', "import { a } from '../../test/bench/x.ts';", /outside services/);
  keeps(
    serviceImports,
    'services/gateway/rpc/chat.ts',
    "import { a } from '#kit/log.ts';\nimport { b } from '../context.ts';",
  );
  keeps(
    serviceImports,
    'clients/lsp/main.ts',
    "import { a } from '../../services/gen/x.ts';\nimport { b } from './b.ts';",
  );
  keeps(serviceImports, 'clients/vscode/web/a.ts', "import { a } from '../../lsp/server.ts';");
  breaks(serviceImports, 'clients/lsp/main.ts', "import { a } from '../vscode/web.ts';", /clients import services/);
});

test('client-core: the completion core imports itself and needs no Node', () => {
  breaks(clientCore, 'clients/lsp/core/a.ts', "import { readFileSync } from 'node:fs';", /imports node:fs/);
  breaks(clientCore, 'clients/lsp/core/a.ts', "import type { B } from '#gen/b.ts';", /the core imports only itself/);
  breaks(clientCore, 'clients/lsp/core/a.ts', "import { b } from '../server.ts';", /the core imports only itself/);
  breaks(clientCore, 'clients/lsp/core/a.ts', 'const size = Buffer.byteLength(text);', /uses Buffer/);
  keeps(clientCore, 'clients/lsp/core/filters/a.ts', "import { b } from '../b.ts';\nconst process = a.process();");
  keeps(clientCore, 'clients/lsp/core/a.ts', "import { TextDocument } from 'vscode-languageserver-textdocument';");
  keeps(clientCore, 'clients/lsp/server.ts', "import { readFileSync } from 'node:fs';");
});

test('straight-column: nothing imports upwards inside a service', () => {
  breaks(
    straightColumn,
    'services/gateway/context.ts',
    "import { a } from './rpc/chat.ts';",
    /context imports .* \(rpc\)/,
  );
  breaks(straightColumn, 'services/gateway/admission.ts', "import { a } from './context.ts';", /noun imports/);
  breaks(straightColumn, 'services/gateway/rpc/chat.ts', "import { a } from '../service.ts';", /rpc imports/);
  keeps(
    straightColumn,
    'services/gateway/main.ts',
    "import { a } from './service.ts';\nimport { b } from './config.ts';",
  );
  keeps(
    straightColumn,
    'services/gateway/tool-loop.ts',
    "import { a } from './generation.ts';\nimport { b } from './context.ts';",
  );
});

test('door: grpc-js under rpc/, an addon in the one file that is for it', () => {
  breaks(doors, 'services/gateway/service.ts', "import * as grpc from '@grpc/grpc-js';", /only kit\/rpc/);
  breaks(doors, 'services/gateway/service.ts', "import type { Server } from '@grpc/grpc-js';", /only kit\/rpc/);
  breaks(
    doors,
    'services/gateway/a.ts',
    "const require = createRequire('x');\nrequire(join(dir, 'engine_addon.node'));",
    /only services\/engine\/native\.ts/,
  );
  breaks(doors, 'services/engine/service.ts', 'process.dlopen(module, path);', /only services\/engine\/native\.ts/);
  keeps(doors, 'services/kit/rpc/server.ts', "import * as grpc from '@grpc/grpc-js';");
  breaks(
    doors,
    'services/tools/jail/launch.ts',
    "createRequire(import.meta.url)('./spawn_addon.node');",
    /services\/tools\/jail\/program\.ts load addons/,
  );
  keeps(doors, 'services/tools/jail/program.ts', "createRequire(import.meta.url)('./spawn_addon.node');");
  keeps(doors, 'services/engine/native.ts', "createRequire(import.meta.url)('./engine_addon.node');");
  keeps(doors, 'services/cli/doctor.ts', "existsSync('engine-native/build/engine_addon.node');");
});

test('cpp-include: the folders in their order, CUDA and Node behind their doors', () => {
  const source = (folder: string): string => `engine-native/src/${folder}/a.cc`;
  breaks(cppIncludes, source('cache'), '#include "model/config.h"\n', /cache\/ includes "model\/config\.h"/);
  breaks(cppIncludes, source('sched'), '#include "backend/backend.h"\n', /sched\/ includes/);
  breaks(cppIncludes, source('base'), '#include "cache/block_pool.h"\n', /base\/ includes/);
  breaks(cppIncludes, source('backend/cpu'), '#include "backend/cuda/stream.h"\n', /backend\/cpu\/ includes/);
  breaks(cppIncludes, source('engine'), '#include "backend/cpu/gemm.h"\n', /engine\/ includes/);
  breaks(cppIncludes, source('model'), '#include <cuda_runtime.h>\n', /CUDA headers/);
  breaks(cppIncludes, 'engine-native/tools/engine_cli.cc', '  #  include <cublasLt.h>\n', /CUDA headers/);
  breaks(cppIncludes, source('engine'), '#include <napi.h>\n', /Node's headers/);
  keeps(cppIncludes, source('backend/cuda'), '#include <cuda_bf16.h>\n#include "backend/backend.h"\n');
  keeps(cppIncludes, source('comm/nccl'), '#include <cuda_runtime.h>\n#include <nccl.h>\n');
  keeps(cppIncludes, source('napi'), '#include <napi.h>\n#include "engine/engine.h"\n');
  keeps(cppIncludes, source('cache'), '// #include "model/config.h"\n#include <vector>\n#include "base/check.h"\n');
});
