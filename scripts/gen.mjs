// node scripts/gen.mjs [--out DIR] [--baseline]
// Generates services/gen from proto/: TypeScript stubs and the descriptor image that reflection serves. Works offline.
// --out DIR   writes services/gen under DIR instead of the checkout (the test that diffs generated code does).
// --baseline  makes today's protos the ones that later changes must not break: writes proto/baseline.json as well.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { listFiles, node24, packageBin, root } from './setup/paths.mjs';
import { mustRun, SetupError } from './setup/steps.mjs';

const env = { ...process.env, PATH: `${dirname(node24)}${delimiter}${process.env.PATH ?? ''}` };
const buf = (...args) => mustRun('gen', packageBin('buf'), args, { env });

/** Generates into a scratch folder and then copies what differs, so that services/gen is never empty for others. */
async function generate(target) {
  const scratch = mkdtempSync(join(tmpdir(), 'quern-gen-'));
  try {
    await buf('generate', '-o', scratch);
    const made = join(scratch, 'services/gen');
    const image = join(scratch, 'image.json');
    await buf('build', '-o', image, '--exclude-source-info', '--as-file-descriptor-set');
    writeFileSync(join(made, 'image.json'), onePerLine(readFileSync(image, 'utf8')));
    await mirror(made, join(target, 'services/gen'));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function writeBaseline() {
  const path = join(root, 'proto/baseline.json');
  await buf('build', '-o', path, '--exclude-source-info');
  writeFileSync(path, onePerLine(readFileSync(path, 'utf8')));
}

/** A descriptor set as JSON with one proto file per line: small, and a diff names the file. */
function onePerLine(json) {
  const files = JSON.parse(json).file.map((file) => JSON.stringify(file));
  return `{"file":[\n${files.join(',\n')}\n]}\n`;
}

/** Makes `to` hold exactly the files of `from`; files that are the same are not touched. */
async function mirror(from, to) {
  const keepAll = () => true;
  const wanted = listFiles(from, keepAll).map((path) => path.slice(from.length));
  for (const path of listFiles(to, keepAll)) {
    if (!wanted.includes(path.slice(to.length))) rmSync(path);
  }
  for (const name of wanted) {
    if (existsSync(to + name) && readFileSync(to + name).equals(readFileSync(from + name))) continue;
    await mkdir(dirname(to + name), { recursive: true });
    await cp(from + name, to + name);
  }
}

const { values } = parseArgs({ options: { out: { type: 'string' }, baseline: { type: 'boolean', default: false } } });
try {
  await generate(values.out === undefined ? root : resolve(values.out));
  if (values.baseline) await writeBaseline();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
