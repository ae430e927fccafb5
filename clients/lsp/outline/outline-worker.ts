/** A thread that parses: a file of some thousand lines takes longer than the server may stand still. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { parentPort } from 'node:worker_threads';
import treeSitter, { type Language } from '@vscode/tree-sitter-wasm';
import { GRAMMARS, type Outline, outlineOf } from './outline.ts';

export type OutlineQuestion = { id: number; languageId: string; text: string };
export type OutlineAnswer = { id: number; outline: Outline | null };

const folder = dirname(createRequire(import.meta.url).resolve('@vscode/tree-sitter-wasm'));
const languages = new Map<string, Promise<Language>>();
const ready = treeSitter.Parser.init({ locateFile: (name: string) => join(folder, name) });

function languageOf(grammar: string): Promise<Language> {
  const known = languages.get(grammar);
  if (known) return known;
  const loading = treeSitter.Language.load(join(folder, `tree-sitter-${grammar}.wasm`));
  languages.set(grammar, loading);
  return loading;
}

async function outline({ languageId, text }: OutlineQuestion): Promise<Outline | null> {
  const grammar = GRAMMARS[languageId];
  if (grammar === undefined) return null;
  await ready;
  const parser = new treeSitter.Parser();
  parser.setLanguage(await languageOf(grammar));
  const tree = parser.parse(text);
  const found = tree && outlineOf(tree.rootNode, grammar);
  tree?.delete(); // its memory is the module's, which nothing collects
  parser.delete();
  return found;
}

parentPort?.on('message', (question: OutlineQuestion) => {
  outline(question).then(
    (found) => parentPort?.postMessage({ id: question.id, outline: found } satisfies OutlineAnswer),
    () => parentPort?.postMessage({ id: question.id, outline: null } satisfies OutlineAnswer),
  );
});
