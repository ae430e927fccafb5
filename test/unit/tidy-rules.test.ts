/** The tidy rules over one file: each finds what breaks it and leaves alone what only looks like it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findFunctions } from '../tidy/functions.ts';
import {
  bannedNames,
  binaryFile,
  environmentAccess,
  fileLength,
  foreignPlaces,
  functionLength,
  lineLength,
  openEnds,
  typeScriptSubset,
  uncommentedFields,
} from '../tidy/rules.ts';
import { viewsOf } from '../tidy/source.ts';
import { breaks, keeps } from './support/rule-checks.ts';

const lines = (count: number): string => '  step();\n'.repeat(count);

describe('views', () => {
  const codeOf = (path: string, text: string): string => viewsOf({ path, text }).code.replace(/ +/g, ' ');

  test('TypeScript: comments, strings, templates and regular expressions are blank, substitutions are code', () => {
    assert.equal(codeOf('a.ts', 'a /* b */ + c // d\n'), 'a + c \n');
    assert.equal(codeOf('a.ts', "f('it\\'s', \"x\")"), 'f( , )');
    assert.equal(codeOf('a.ts', '`a $' + '{b + `c$' + '{{ d: 1 }.d}`} e` + f'), ' b + { d: 1 }.d + f');
    assert.equal(codeOf('a.ts', 'x = /[/"]\\//g.test(y) / 2'), 'x = .test(y) / 2');
  });

  test('C++: raw strings, character literals, digit separators', () => {
    assert.equal(codeOf('a.cc', 'f(R"x(a " ) b)x", 1\'000\'000, \'"\', "c");'), "f( , 1'000'000, , );");
  });

  test('offsets and lines stay', () => {
    const text = "a;\n/* b\n */ c('d');\n";
    const { code, strings, comments } = viewsOf({ path: 'a.ts', text });
    for (const view of [code, strings, comments]) assert.equal(view.length, text.length);
    assert.equal(code.indexOf('c'), text.indexOf("c('"));
    assert.match(comments, /b\n \*\//);
  });
});

describe('functions', () => {
  const shapes = (path: string, text: string): string[] =>
    findFunctions({ path, text }).map(({ name, line, lines }) => `${name}:${line}:${lines}`);

  test('TypeScript: declarations, methods, arrows, accessors; control flow and literals are none', () => {
    assert.deepEqual(
      shapes('a.ts', 'export async function* run(a: { b: number }): Promise<{ c: 1 }> {\n  if (a) {\n  }\n}\n'),
      ['run:1:4'],
    );
    assert.deepEqual(
      shapes('a.ts', 'class A {\n  get b(): number {\n    return 1;\n  }\n  #c = async () => {\n  };\n}\n'),
      ['b:2:3', '#c:5:2'.replace('#', '')],
    );
    assert.deepEqual(shapes('a.ts', 'const a = { b: 1, c(d: string) {\n  return d;\n} };\n'), ['c:1:3']);
    assert.deepEqual(shapes('a.ts', 'for (let i = 0; i < 3; i++) {\n}\nconst x = { y: { z: 1 } };\n'), []);
  });

  test('C++: definitions, constructors with initialisers, lambdas; types, namespaces and braces of values are none', () => {
    const text = `namespace q {
struct A final : B {
  A(int x) : x_(x), y_{x} {
  }
  int x_, y_;
};
Status A::go(int n) const noexcept {
  for (;;) {
  }
  auto f = [&](int i) -> int {
    return i;
  };
  std::vector<int> v{1, 2};
}
}
`;
    assert.deepEqual(shapes('a.cc', text), ['A:3:2', 'lambda:10:3', 'A::go:7:8']);
  });
});

test('function-length: 70 own lines, nested functions counted for themselves, 140 in all', () => {
  breaks(functionLength, 'a.ts', `function long() {\n${lines(69)}}\n`, /long has 71 lines of its own/);
  breaks(functionLength, 'a.cc', `int quern::long_one(int a) {\n${lines(69)}}\n`, /quern::long_one has 71 lines/);
  keeps(functionLength, 'a.ts', `function just() {\n${lines(68)}}\n`);
  keeps(functionLength, 'a.ts', `function outer() {\n  const inner = () => {\n${lines(60)}  };\n${lines(60)}}\n`);
  const inner = (name: string): string => `  const ${name} = () => {\n${lines(60)}  };\n`;
  breaks(
    functionLength,
    'a.ts',
    `function outer() {\n${inner('a')}${inner('b')}${inner('c')}}\n`,
    /outer .* 188 with the functions/,
  );
  keeps(functionLength, 'a.test.ts', `describe('much', () => {\n${lines(200)}});\n`);
  breaks(functionLength, 'a.test.ts', `test('much', () => {\n${lines(200)}});\n`, /202 lines of its own/);
});

test('line-length and file-length', () => {
  breaks(lineLength, 'a.ts', `// ${'x'.repeat(138)}\n`, /141 columns, at most 140/);
  keeps(lineLength, 'a.ts', `// ${'ä'.repeat(137)}\n`);
  keeps(lineLength, 'a.md', `${'x'.repeat(500)}\n`);
  breaks(fileLength, 'a.cc', '\n'.repeat(601), /601 lines, at most 600/);
  keeps(fileLength, 'a.cc', '\n'.repeat(600));
});

test('banned-name: in files and identifiers, not inside other words, strings or names that others gave', () => {
  breaks(bannedNames, 'services/kit/http-utils.ts', '', /file name "http-utils"/);
  breaks(bannedNames, 'a.ts', 'const poolManager = 1;', /identifier "poolManager": say what it does/);
  breaks(bannedNames, 'a.cc', 'int parse_helpers();', /identifier "parse_helpers"/);
  keeps(bannedNames, 'a.ts', "const utilization = 'manager'; // helper\nnew AsyncLocalStorageContextManager();");
});

test('open-end: only with a reason', () => {
  const mark = 'TO' + 'DO';
  breaks(openEnds, 'a.ts', `// ${mark} later\n`, /without a reason/);
  breaks(openEnds, 'a.py', `# ${'FIX' + 'ME'}: soon\n`, /without a reason/);
  keeps(openEnds, 'a.cc', `// ${mark}: needs the NCCL communicator first\n`);
  keeps(openEnds, 'a.ts', `const text = '${mark}';\n`);
});

test('typescript-subset: default exports, enums, namespaces, any', () => {
  breaks(typeScriptSubset, 'a.ts', 'export default 1;', /default export/);
  breaks(typeScriptSubset, 'a.ts', 'export { a as default };', /default export/);
  breaks(typeScriptSubset, 'a.ts', 'export const enum A {}', /enum/);
  breaks(typeScriptSubset, 'a.ts', 'declare namespace A {}', /namespace/);
  for (const text of [
    'let a: any;',
    'f(a as any)',
    'type A = any;',
    'let a: Map<string, any>;',
    'let a: any[];',
    '(a: any) => 1',
  ]) {
    breaks(typeScriptSubset, 'a.ts', text, /`any`/);
  }
  keeps(
    typeScriptSubset,
    'a.ts',
    'Promise.any([]);\nAbortSignal.any([]);\nfc.assert(text, any, any);\n// any namespace\n',
  );
  keeps(typeScriptSubset, 'services/gen/a.ts', 'export namespace A {}');
});

test('environment: only config.ts, the cli, tests and scripts read it', () => {
  breaks(environmentAccess, 'services/gateway/service.ts', 'const a = process.env.A;', /only config\.ts/);
  breaks(environmentAccess, 'services/kit/env.ts', 'read(process.env)', /only config\.ts/);
  breaks(environmentAccess, 'services/gateway/main.ts', 'if (process.env.A) start();', /only config\.ts/);
  keeps(environmentAccess, 'services/gateway/main.ts', 'const config = readConfig(process.env);');
  keeps(environmentAccess, 'services/gateway/config.ts', 'read(process.env)');
  breaks(environmentAccess, 'services/cli/main.ts', 'read(process.env)', /only config\.ts/);
  breaks(environmentAccess, 'services/cli/commands/up.ts', 'const a = process.env.A;', /only config\.ts/);
  breaks(
    environmentAccess,
    'services/cli/commands/up.ts',
    'const { env } = io.config; use(env.XDG_A);',
    /only config\.ts/,
  );
  breaks(environmentAccess, 'services/cli/commands/up.ts', 'use(io.config.env.XDG_A);', /only config\.ts/);
  breaks(environmentAccess, 'services/cli/up/config.ts', 'read(process.env)', /only config\.ts/);
  keeps(environmentAccess, 'services/cli/main.ts', 'const config = readCliConfig(process.env);');
  keeps(environmentAccess, 'services/cli/config.ts', 'read(process.env)');
  keeps(environmentAccess, 'services/cli/commands/up.ts', 'start({ env: io.config.env });');
  keeps(environmentAccess, 'scripts/test.mjs', 'read(process.env)');
});

test('foreign-place: registry hosts and paths of one machine', () => {
  breaks(foreignPlaces, 'a.md', `https://${'py' + 'pi.org'}/simple`, /registry host/);
  breaks(foreignPlaces, 'a.json', `"https://registry.npm${'js.org'}/x"`, /registry host/);
  for (const path of ['/wo' + 'rk/main', '/ro' + 'ot/.cache', '/ho' + 'me/ann/x', '/Us' + 'ers/ann/x']) {
    breaks(foreignPlaces, 'a.ts', `open('${path}')`, /absolute path/);
  }
  keeps(foreignPlaces, 'a.ts', "open('build/wo' + 'rk/x'); open(`$" + '{dir}/wo' + "rk/x`); see('./ro" + "ot/')");
});

test('binary-file: only models and pictures of the documentation', () => {
  breaks(binaryFile, 'services/gen/image.binpb', 'a\0b', /binary file/);
  keeps(binaryFile, 'models/mini/model.safetensors', 'a\0b');
  keeps(binaryFile, 'docs/img/trace.png', 'a\0b');
  breaks(binaryFile, 'docs/trace.bin', 'a\0b', /binary file/);
});

describe('protos', () => {
  const message = (field: string): string => `message A {\n  // of the whole\n\n${field}\n}\n`;

  test('proto-field-comment: a field of any kind without a comment', () => {
    for (const field of [
      'uint32 a = 1;',
      'optional sint32 a = 1;',
      'repeated quern.common.v1.Usage a = 1;',
      'map<uint32, float> a = 1;',
      'string a = 1 [deprecated = true];',
      'string a = 1; //',
    ]) {
      breaks(uncommentedFields, 'proto/quern/a/v1/a.proto', message(`  ${field}`), /^field a has no comment: say unit/);
    }
    const second = message('  uint32 a = 1; // tokens, >= 0\n  uint32 b = 2;');
    breaks(uncommentedFields, 'proto/quern/a/v1/a.proto', second, /^field b /);
  });

  test('proto-field-comment: beside or above is enough; other lines and other people’s protos need none', () => {
    keeps(uncommentedFields, 'proto/quern/a/v1/a.proto', message('  uint32 a = 1; // tokens, 0..n; 0 = none'));
    keeps(uncommentedFields, 'proto/quern/a/v1/a.proto', message('  // tokens, 0..n\n  uint32 a = 1;'));
    const rest = 'syntax = "proto3";\npackage a.v1;\noption go_package = "x";\nenum E {\n  E_UNSPECIFIED = 0;\n}\n';
    keeps(uncommentedFields, 'proto/quern/a/v1/a.proto', `${rest}message A {\n  reserved 2;\n  oneof b {\n  }\n}\n`);
    keeps(uncommentedFields, 'proto/google/rpc/status.proto', message('  uint32 a = 1;'));
  });
});
