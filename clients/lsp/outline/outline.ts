/** What a file imports and what it declares, read from its syntax tree. Signatures only: no bodies. */
import type { Node } from '@vscode/tree-sitter-wasm';

export type Import = {
  /** As the file writes it: ./shapes.ts, ..shapes, pkg.shapes. */
  source: string;
  /** Names taken from it; null: all of them. */
  names: string[] | null;
};

export type Declaration = { name: string; signature: string };

export type Outline = { imports: Import[]; declarations: Declaration[] };

/** Language id -> grammar of the package; those that are missing have no outline. */
export const GRAMMARS: Readonly<Record<string, string>> = {
  typescript: 'typescript',
  typescriptreact: 'tsx',
  javascript: 'javascript',
  javascriptreact: 'javascript',
  python: 'python',
};

const IMPORTS_MAX = 64;
const DECLARATIONS_MAX = 256;
const SIGNATURE_CHARS_MAX = 500;

const children = (node: Node | null): Node[] => (node?.namedChildren ?? []).filter((child) => child !== null);
const field = (node: Node, name: string): Node | null => node.childForFieldName(name);

export function outlineOf(root: Node, grammar: string): Outline {
  const read = grammar === 'python' ? python : ecmaScript;
  const outline: Outline = { imports: [], declarations: [] };
  for (const statement of children(root)) {
    if (outline.imports.length < IMPORTS_MAX) outline.imports.push(...read.imports(statement));
    if (outline.declarations.length < DECLARATIONS_MAX) outline.declarations.push(...read.declarations(statement));
  }
  return outline;
}

/** Text of a node up to its body, on one line where it is short. */
function head(node: Node, body: Node | null): string {
  const text = body === null ? node.text : node.text.slice(0, body.startIndex - node.startIndex);
  return text.trimEnd().slice(0, SIGNATURE_CHARS_MAX);
}

function declared(name: Node | null, signature: string): Declaration[] {
  return name === null ? [] : [{ name: name.text, signature: signature.slice(0, SIGNATURE_CHARS_MAX) }];
}

const ecmaScript = {
  imports(statement: Node): Import[] {
    if (statement.type !== 'import_statement') return [];
    const source = field(statement, 'source')?.text.slice(1, -1) ?? '';
    const clause = children(statement).find(({ type }) => type === 'import_clause');
    const parts = children(clause ?? null);
    const named = parts.filter(({ type }) => type === 'named_imports').flatMap(children);
    const names = named.map((one) => field(one, 'name')?.text ?? '').filter((name) => name !== '');
    const takesAll = parts.some(({ type }) => type === 'namespace_import' || type === 'identifier');
    return source === '' ? [] : [{ source, names: takesAll ? null : names }];
  },

  /** Only what is exported can be imported. */
  declarations(statement: Node): Declaration[] {
    const node = statement.type === 'export_statement' ? field(statement, 'declaration') : null;
    if (node === null) return [];
    const name = field(node, 'name');
    const body = field(node, 'body');
    if (node.type === 'function_declaration' || node.type === 'generator_function_declaration')
      return declared(name, `${head(node, body)};`);
    if (node.type === 'class_declaration' || node.type === 'abstract_class_declaration')
      return declared(name, classSignature(node, body, '{', '}'));
    if (node.type !== 'lexical_declaration') return declared(name, node.text);
    return children(node)
      .filter(({ type }) => type === 'variable_declarator')
      .flatMap((one) => {
        const value = field(one, 'value');
        const inner = value && field(value, 'body');
        const text = inner ? `${head(one, inner)} …` : one.text;
        return declared(field(one, 'name'), `const ${text}`);
      });
  },
};

const python = {
  imports(statement: Node): Import[] {
    const named = statement.childrenForFieldName('name').filter((node) => node !== null);
    const names = named.map((one) => (field(one, 'name') ?? one).text);
    if (statement.type === 'import_statement') return names.map((source) => ({ source, names: null }));
    if (statement.type !== 'import_from_statement') return [];
    const source = field(statement, 'module_name')?.text ?? '';
    return source === '' ? [] : [{ source, names: names.length === 0 ? null : names }];
  },

  declarations(statement: Node): Declaration[] {
    const node = statement.type === 'decorated_definition' ? field(statement, 'definition') : statement;
    if (node === null) return [];
    const body = field(node, 'body');
    if (node.type === 'function_definition') return declared(field(node, 'name'), `${head(node, body)} ...`);
    if (node.type !== 'class_definition') return [];
    return declared(field(node, 'name'), classSignature(node, body, '', ''));
  },
};

/** The head of a class and the heads of what it holds. */
function classSignature(node: Node, body: Node | null, open: string, close: string): string {
  const lines = children(body)
    .map((member) => (member.type === 'decorated_definition' ? (field(member, 'definition') ?? member) : member))
    .filter(({ type }) => !/comment|block|decorator/.test(type))
    .map((member) => `  ${head(member, field(member, 'body')).split('\n')[0]}`);
  const first = `${head(node, body)}${open === '' ? '' : ` ${open}`}`;
  return [first, ...lines, ...(close === '' ? [] : [close])].join('\n');
}
