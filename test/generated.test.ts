/** Generated code is what the protos say today, and the gates over the protos stop what they should stop. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';

const root = resolve(import.meta.dirname, '..');
const buf = join(root, 'node_modules/.bin/buf');

function makeScratch(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-generated-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function runIn(cwd: string, command: string, ...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

function readTree(dir: string): Map<string, string> {
  const names = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = names.map((entry) => join(entry.parentPath, entry.name)).sort();
  return new Map(paths.map((path) => [path.slice(dir.length + 1), readFileSync(path, 'utf8')]));
}

/** A copy of proto/ and buf's configuration in which one file was changed. */
function copyProtos(t: TestContext, edit: { file: string; from: string; to: string } | null): string {
  const dir = makeScratch(t);
  for (const name of ['proto', 'buf.yaml']) cpSync(join(root, name), join(dir, name), { recursive: true });
  if (edit === null) return dir;
  const path = join(dir, 'proto/quern', edit.file);
  const text = readFileSync(path, 'utf8');
  assert(text.includes(edit.from), `${edit.file} no longer contains "${edit.from}": choose another line to break`);
  writeFileSync(path, text.replace(edit.from, edit.to));
  return dir;
}

test('services/gen is what `npm run gen` makes of proto/', (t) => {
  const scratch = makeScratch(t);
  const { status, output } = runIn(root, process.execPath, 'scripts/gen.mjs', '--out', scratch);
  assert.equal(status, 0, output);
  const made = readTree(join(scratch, 'services/gen'));
  const committed = readTree(join(root, 'services/gen'));
  assert.deepEqual([...committed.keys()], [...made.keys()], 'files of services/gen: run `npm run gen`');
  for (const [name, text] of made)
    assert(committed.get(name) === text, `services/gen/${name} differs: run \`npm run gen\``);
});

test('the descriptor image holds every service, with all files they refer to', () => {
  const image = JSON.parse(readFileSync(join(root, 'services/gen/image.json'), 'utf8'));
  const files = image.file as { name: string; dependency?: string[]; service?: { name: string }[]; package: string }[];
  const names = new Set(files.map(({ name }) => name));
  for (const { name, dependency = [] } of files) {
    for (const needed of dependency) assert(names.has(needed), `${name} needs ${needed}, which the image lacks`);
  }
  const services = files.flatMap((file) => (file.service ?? []).map((service) => `${file.package}.${service.name}`));
  for (const service of ['quern.engine.v1.EngineService', 'grpc.health.v1.Health'])
    assert(services.includes(service), service);
});

test('buf breaking: today’s protos pass, a field of another type and a renamed RPC do not', (t) => {
  const against = ['breaking', '--against', 'proto/baseline.json'];
  const intact = runIn(copyProtos(t, null), buf, ...against);
  assert.equal(intact.status, 0, intact.output);
  const field = {
    file: 'tokenizer/v1/tokenizer.proto',
    from: 'repeated uint32 token_ids = 1',
    to: 'repeated uint64 token_ids = 1',
  };
  const changed = runIn(copyProtos(t, field), buf, ...against);
  assert.equal(changed.status, 100);
  assert.match(changed.output, /tokenizer\.proto:\d+:\d+:.*changed type/);
  const rpc = { file: 'tokenizer/v1/tokenizer.proto', from: 'rpc Decode(', to: 'rpc DecodeAll(' };
  assert.equal(runIn(copyProtos(t, rpc), buf, ...against).status, 100);
});

test('buf lint: today’s protos pass, a name against the rules does not', (t) => {
  const intact = runIn(copyProtos(t, null), buf, 'lint');
  assert.equal(intact.status, 0, intact.output);
  const name = { file: 'tokenizer/v1/tokenizer.proto', from: 'service TokenizerService', to: 'service Tokens' };
  const changed = runIn(copyProtos(t, name), buf, 'lint');
  assert.equal(changed.status, 100);
  assert.match(changed.output, /Service name "Tokens" should be suffixed/);
});
