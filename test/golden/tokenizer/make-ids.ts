// Adds ids to the rendered texts of a golden file: node make-ids.ts TOKENIZER_DIR FILE.json
// Ids are those of the Rust tokenizers, every added token counting. See README.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from 'tokenizers';

const [dir, path] = process.argv.slice(2) as [string, string];
const tokenizer = Tokenizer.fromString(readFileSync(join(dir, 'tokenizer.json'), 'utf8'));
const cases = JSON.parse(readFileSync(path, 'utf8')) as { name: string; text: string }[];
const done = [];
for (const { name, text } of cases) {
  const encoding = await tokenizer.encode(text, null, { addSpecialTokens: false });
  done.push(`{"name": ${JSON.stringify(name)},\n "text": ${JSON.stringify(text)},\n "ids": ${JSON.stringify(encoding.getIds())}}`);
}
writeFileSync(path, `[\n${done.join(',\n')}\n]\n`);
