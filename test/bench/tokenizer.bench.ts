// The tokenizer's fast path beside @huggingface/tokenizers and the Rust tokenizers, on the same text and machine.
//   npm run bench:tokenizer
// The vocabulary is that of QUERN_TEST_TOKENIZER_DIR, else of models/quern-mini, else one trained on the spot.
// All are warmed on another text. "cold" is a tokenizer whose word cache is empty; "warm" has seen the text once.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { Tokenizer as RustTokenizer } from 'tokenizers';
import { type ModelFiles, readModelFiles } from '../../services/tokenizer/model-files.ts';
import { TextTokenizer } from '../../services/tokenizer/tokenizer.ts';
import { createRandom, mixedSource } from '../unit/tokenizer/support/corpus.ts';
import { byteLevelTokenizer, modelFiles, PRETOKENIZERS, trainMerges } from '../unit/tokenizer/support/vocabularies.ts';

const UNITS = 1_000_000;
const ROUNDS = 7;
const root = join(import.meta.dirname, '../..');

async function vocabularyFiles(): Promise<{ name: string; files: ModelFiles }> {
  const mini = join(root, 'models/quern-mini');
  const dir = process.env.QUERN_TEST_TOKENIZER_DIR ?? (existsSync(join(mini, 'tokenizer.json')) ? mini : null);
  if (dir) return { name: dir, files: await readModelFiles(dir) };
  const merges = trainMerges(mixedSource(60_000), 700);
  const json = byteLevelTokenizer({ merges, preTokenizer: PRETOKENIZERS.qwen2! });
  return { name: 'trained on the spot, 956 tokens', files: modelFiles(json) };
}

type Measured = { wallMs: number; cpuMs: number; tokens: number };

async function measure(run: () => number | Promise<number>): Promise<Measured> {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  const tokens = await run();
  const wallMs = performance.now() - begun;
  const { user, system } = process.cpuUsage(cpu);
  return { wallMs, cpuMs: (user + system) / 1000, tokens };
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

async function medianOf(rounds: number, run: () => number | Promise<number>): Promise<Measured> {
  const all: Measured[] = [];
  for (let round = 0; round < rounds; round += 1) all.push(await measure(run));
  return {
    wallMs: median(all.map(({ wallMs }) => wallMs)),
    cpuMs: median(all.map(({ cpuMs }) => cpuMs)),
    tokens: all[0]!.tokens,
  };
}

function line(name: string, { wallMs, cpuMs, tokens }: Measured, reference?: Measured): void {
  const rate = (ms: number): string => (tokens / ms / 1000).toFixed(2).padStart(6);
  const times = (theirs: number, own: number): string => (theirs / own).toFixed(1).padStart(5);
  const ratio = reference
    ? `  ${times(reference.wallMs, wallMs)}x the library (${times(reference.cpuMs, cpuMs)}x in CPU time)`
    : '';
  console.log(
    `${name.padEnd(34)}${wallMs.toFixed(1).padStart(8)} ms ${rate(wallMs)} Mtok/s (${rate(cpuMs)} per CPU second)${ratio}`,
  );
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root }).toString().trim();
  } catch {
    return 'unknown';
  }
}

function header(name: string): void {
  const cpu = cpus()[0]?.model ?? 'unknown';
  console.log(
    `cpu ${cpu}, ${cpus().length} threads, load ${loadavg()[0]!.toFixed(2)}, node ${process.version}, commit ${commit()}`,
  );
  console.log(`vocabulary: ${name}`);
  console.log(`text: ${UNITS} UTF-16 units of mixed source, medians of ${ROUNDS}\n`);
}

/** Alternates the candidates round by round, so that a change of the machine's load meets all of them. */
async function sideBySide(files: ModelFiles): Promise<void> {
  const all = mixedSource(2 * UNITS);
  const other = all.slice(UNITS);
  const text = all.slice(0, UNITS);
  const library = new LibraryTokenizer({ ...files.tokenizer, added_tokens: [] }, files.tokenizerConfig);
  const rust = RustTokenizer.fromString(JSON.stringify({ ...files.tokenizer, added_tokens: [] }));
  const ours = new TextTokenizer(files);
  if (!ours.isByteLevel) console.log('this vocabulary does not take the fast path');
  const runLibrary = (input: string) => library.encode(input, { add_special_tokens: false }).ids.length;
  const runRust = async (input: string) => (await rust.encode(input, null, { addSpecialTokens: false })).getLength();

  runLibrary(other);
  await runRust(other);
  for (let round = 0; round < 4; round += 1) ours.encode(other, 'none');

  const results: Record<'cold' | 'warm' | 'library' | 'rust', Measured[]> = {
    cold: [],
    warm: [],
    library: [],
    rust: [],
  };
  for (let round = 0; round < ROUNDS; round += 1) {
    const fresh = new TextTokenizer(files);
    results.cold.push(await measure(() => fresh.encode(text, 'none').length));
    results.warm.push(await measure(() => fresh.encode(text, 'none').length));
    if (round >= 3) continue; // the others are slow and steady
    results.library.push(await measure(() => runLibrary(text)));
    results.rust.push(await measure(() => runRust(text)));
  }
  const of = (list: Measured[]): Measured => ({
    wallMs: median(list.map(({ wallMs }) => wallMs)),
    cpuMs: median(list.map(({ cpuMs }) => cpuMs)),
    tokens: list[0]!.tokens,
  });
  const reference = of(results.library);
  line('@huggingface/tokenizers, warm', reference);
  line('Rust tokenizers, warm', of(results.rust), reference);
  line('ours, cold', of(results.cold), reference);
  line('ours, warm', of(results.warm), reference);
}

async function edges(files: ModelFiles): Promise<void> {
  const ours = new TextTokenizer(files);
  const random = createRandom(1);
  const letters = Array.from({ length: UNITS }, () => String.fromCharCode(97 + Math.floor(random() * 26))).join('');
  console.log('\n1 MB without a break, and short texts:');
  for (const [name, text] of [
    ['random letters', letters],
    ['one letter', 'a'.repeat(UNITS)],
    ['blanks', ' '.repeat(UNITS)],
    ['CJK (3 MB of UTF-8)', '漢字'.repeat(UNITS / 2)],
  ] as const) {
    ours.encode(text.slice(0, 50_000), 'none');
    line(name, await medianOf(3, () => ours.encode(text, 'none').length));
  }
  const short = 'const total = rows.map((row) => row.price);\n';
  const thousand = () => {
    let tokens = 0;
    for (let i = 0; i < 1000; i += 1) tokens += ours.encode(short, 'none').length;
    return tokens;
  };
  await medianOf(5, thousand);
  line('a line of code, 1000 times', await medianOf(5, thousand));
}

const { name, files } = await vocabularyFiles();
header(name.startsWith(root) ? name.slice(root.length + 1) : (name.split('/').at(-1) ?? name));
await sideBySide(files);
await edges(files);
