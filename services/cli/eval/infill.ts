/** `quern eval infill`: cuts holes, has a mesh fill them, stores and compares what came. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { counted } from '../counted.ts';
import { connect, GATEWAY_OPTIONS, type GatewayClient } from '../gateway-client.ts';
import { choice, parseOptions, wholeNumber } from '../options.ts';
import { textFor } from '../terminal-text.ts';
import { type Asked, type Asking, askAll, MAX_TOKENS, PAUSE_MS, TEMPERATURE } from './ask.ts';
import { checkComparable, compareRuns, describeChanges } from './comparison.ts';
import { type Demands, demandsOf, failedDemands } from './demands.ts';
import { figuresOf } from './figures.ts';
import { cutHoles, EDITOR_WINDOW, type Hole, KINDS, type Kind, type Window } from './holes.ts';
import { evaluationAsJson, formatComparison, formatFigures } from './print.ts';
import { progressOn } from './progress.ts';
import { seededRandom } from './random.ts';
import { type Evaluation, newRun, type Row, type Run, readEvaluation } from './result.ts';
import { heldOutSources, type Source, sha256, sourcesIn } from './sources.ts';
import { openStore, rowsOfBefore, type Store, targetFor } from './store.ts';
import { openSyntax, type Reading, type Syntax } from './syntax.ts';

const OPTIONS = {
  ...GATEWAY_OPTIONS,
  model: { type: 'string' },
  sources: { type: 'string', multiple: true },
  holes: { type: 'string' },
  seed: { type: 'string' },
  kind: { type: 'string' },
  concurrency: { type: 'string' },
  before: { type: 'string' },
  after: { type: 'string' },
  'prompt-tokens': { type: 'string' },
  out: { type: 'string' },
  force: { type: 'boolean' },
  compare: { type: 'string' },
  'fail-below': { type: 'string', multiple: true },
  'fail-on-regression': { type: 'boolean' },
  'with-text': { type: 'boolean' },
  json: { type: 'boolean' },
} as const;

const HOLES_DEFAULT = 200;
const HOLES_MAX = 100_000;
const SEED_DEFAULT = 1;
const CONCURRENCY_DEFAULT = 2;
const LINES_MAX = 100_000;
const PROMPT_TOKENS_MAX = 0xffffffff;

type Plan = {
  kind: Kind;
  seed: number;
  wanted: number;
  concurrency: number;
  withText: boolean;
  window: Window;
  promptTokens: number;
};
type Values = ReturnType<typeof parseOptions<typeof OPTIONS>>['values'];

function planOf(values: Values): Plan {
  return {
    kind: choice('kind', values.kind, KINDS) ?? 'line',
    seed: wholeNumber('seed', values.seed, SEED_DEFAULT, 0, 0xffffffff),
    wanted: wholeNumber('holes', values.holes, HOLES_DEFAULT, 1, HOLES_MAX),
    concurrency: wholeNumber('concurrency', values.concurrency, CONCURRENCY_DEFAULT, 1, 64),
    withText: values['with-text'] ?? false,
    window: {
      before: wholeNumber('before', values.before, EDITOR_WINDOW.before, 1, LINES_MAX),
      after: wholeNumber('after', values.after, EDITOR_WINDOW.after, 1, LINES_MAX),
    },
    promptTokens: wholeNumber('prompt-tokens', values['prompt-tokens'], 0, 0, PROMPT_TOKENS_MAX),
  };
}

export async function evalInfill(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseOptions(args, OPTIONS);
  if (positionals.length > 0) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `expected no further words, got "${positionals.join(' ')}"; folders go after --sources`,
    );
  }
  const plan = planOf(values);
  const demands = demandsOf(values['fail-below'] ?? [], values['fail-on-regression'] ?? false, values.compare);
  // Everything that can be wrong here is found before the model works.
  const earlier = values.compare === undefined ? null : await readEvaluation(values.compare);
  const target = values.out === undefined ? null : await targetFor(values.out, values.force ?? false);
  const sources = values.sources === undefined ? await heldOutSources() : await sourcesIn(values.sources);
  const syntax = await openSyntax();
  const gateway = connect(values, io);
  try {
    const model = await describe(gateway, values.model ?? '', io.signal);
    const { holes, readings } = await cut(sources, plan, syntax, io);
    const fresh = newRun({ ...(await here()), model, settings: settingsOf(plan, sources, values.sources) });
    const ids = holes.map(({ id }) => id);
    if (earlier) {
      const { common, changes } = checkComparable(earlier, { settings: fresh.settings, ids }, demands.noRegression);
      if (common < ids.length) io.stderr.write(`${common} of ${ids.length} holes are in ${values.compare} too\n`);
      if (changes.length > 0) io.stderr.write(`${values.compare} has other settings: ${describeChanges(changes)}\n`);
    }
    const kept = target === null ? [] : rowsOfBefore(target, fresh, new Set(ids), plan.withText);
    if (kept.length > 0) io.stderr.write(`going on after ${kept.length} of ${ids.length} holes in ${values.out}\n`);
    const begun = target?.begun?.run;
    const run = begun ? { ...fresh, at: begun.at, commit: begun.commit } : fresh;
    const { concurrency, withText, window, promptTokens } = plan;
    const asking = {
      signal: io.signal,
      pauseMs: PAUSE_MS,
      gateway,
      model: model.name,
      syntax,
      readings,
      concurrency,
      withText,
      window,
      promptTokens,
    };
    const store = target && openStore(target, run, kept);
    const { rows, stopped } = await askMissing(holes, kept, asking, store, io);
    const json = values.json ?? false;
    const out = target?.isFile ? target.name : null;
    if (stopped)
      return tellStopped({ run, rows }, holes.length, stopped, { json, out, force: values.force ?? false }, io);
    const code = tell({ run, rows }, { earlier, demands, json }, io);
    store?.finish({ run, rows }); // behind the figures, which shall not be lost where a disk is full
    return code;
  } finally {
    gateway.close();
    syntax.close();
  }
}

/** Rows of all holes that have one now, in the order of the holes. */
async function askMissing(
  holes: readonly Hole[],
  kept: readonly Row[],
  asking: Omit<Asking, 'onRow'>,
  store: Store | null,
  io: Io,
): Promise<Asked> {
  const known = new Map(kept.map((row) => [row.id, row]));
  const missing = holes.filter(({ id }) => !known.has(id));
  const progress = progressOn(io, kept.length, holes.length);
  const onRow = (row: Row): void => {
    progress.step();
    store?.add(row);
  };
  const { rows, stopped } = await askAll(missing, { ...asking, onRow });
  progress.clear();
  for (const row of rows) known.set(row.id, row);
  return { rows: holes.flatMap(({ id }) => known.get(id) ?? []), stopped };
}

type Told = { earlier: Evaluation | null; demands: Demands; json: boolean };

/** Prints figures and differences; 0 when all holes were answered and nothing that was demanded is missed. */
function tell(evaluation: Evaluation, { earlier, demands, json }: Told, io: Io): number {
  const { run, rows } = evaluation;
  const groups = figuresOf(rows, run.settings.seed);
  const comparison = earlier && compareRuns(earlier, evaluation);
  if (json) io.stdout.write(evaluationAsJson(run, groups, comparison));
  else io.stdout.write(formatFigures(run, groups, io.stdout.columns));
  if (comparison && !json) io.stdout.write(formatComparison(run, comparison));
  if (earlier && !comparison) io.stderr.write('nothing to compare: no hole has an answer in both runs\n');
  const missed = failedDemands(demands, groups.at(-1), comparison);
  for (const line of missed) io.stderr.write(`quern: ${line}\n`);
  return missed.length === 0 && rows.every(({ failure }) => failure === null) ? 0 : 1;
}

/** Prints the figures of what was done, and how it goes on. */
function tellStopped({ run, rows }: Evaluation, wanted: number, why: QuernError, plan: Stopping, io: Io): number {
  if (rows.length > 0) {
    const groups = figuresOf(rows, run.settings.seed);
    const part: Run = { ...run, partial: true };
    if (plan.json) io.stdout.write(evaluationAsJson(part, groups, null));
    else io.stdout.write(formatFigures(part, groups, io.stdout.columns));
  }
  const again = plan.force ? 'the same command without --force' : 'the same command';
  const kept =
    plan.out === null ? 'nothing is kept without --out' : `${plan.out} keeps them, ${again} goes on from there`;
  const done = `stopped after ${rows.length} of ${counted(wanted, 'hole')}${rows.length > 0 ? ` (${kept})` : ''}`;
  const isOurs = why.code === 'CANCELLED';
  io.stderr.write(`quern: ${done}${isOurs ? '' : `: ${textFor(io.stderr, why.message)}`}\n`);
  return isOurs ? 130 : 1;
}

type Stopping = { json: boolean; force: boolean; out: string | null };
/** FAILED_PRECONDITION where the model cannot fill in. */
async function describe(gateway: GatewayClient, wanted: string, signal: AbortSignal): Promise<Run['model']> {
  const able = await gateway.getCapabilities({ model: wanted }, { signal });
  if (!able.infill) {
    const hint = 'serve one whose vocabulary has fill-in-the-middle tokens';
    throw new QuernError('FAILED_PRECONDITION', `${able.model} cannot fill in the middle; ${hint}`);
  }
  const { models } = await gateway.listModels({ signal });
  const model = models.find(({ name }) => name === able.model);
  return {
    name: able.model,
    hash: model?.modelHash ?? '',
    vocabulary: able.tokenizerHash,
    fim_family: able.fimFamily,
    prompt_order: able.promptOrder,
    dtype: model?.dtype ?? '',
    backend: model?.backend ?? '',
    context_length: able.contextLength,
    infill_prompt_tokens: able.infillPromptTokens,
  };
}

async function cut(sources: readonly Source[], { kind, wanted, seed }: Plan, syntax: Syntax, io: Io) {
  const files: { source: Source; reading: Reading }[] = [];
  for (const source of sources) {
    await setImmediate(undefined, { signal: io.signal }); // reading never waits: without a pause nobody hears a Ctrl-C
    files.push({ source, reading: await syntax.read(source.text, source.language) });
  }
  const holes: Hole[] = cutHoles(files, kind, wanted, seededRandom(seed));
  if (holes.length === 0) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `no place for a ${kind} hole in ${counted(sources.length, 'file')}; see quern eval --help`,
    );
  }
  if (holes.length < wanted) io.stderr.write(`only ${holes.length} of ${wanted} holes: there are no more places\n`);
  return { holes, readings: new Map(files.map(({ source, reading }) => [source.sha256, reading])) };
}

function settingsOf(plan: Plan, sources: readonly Source[], given: readonly string[] | undefined): Run['settings'] {
  return {
    ...{ kind: plan.kind, seed: plan.seed, holes_wanted: plan.wanted, max_tokens: MAX_TOKENS[plan.kind] },
    ...{ temperature: TEMPERATURE, concurrency: plan.concurrency, files: sources.length },
    ...{ lines_before: plan.window.before, lines_after: plan.window.after },
    prompt_tokens: plan.promptTokens,
    sources: given === undefined ? 'the held-out set' : 'the given folders',
    sources_hash: sha256(
      sources
        .map((source) => source.sha256)
        .sort()
        .join('\n'),
    ),
  };
}

/** Which Quern this is; the commit is "" outside of a checkout, also where that lies in another's. */
async function here(): Promise<Pick<Run, 'quern' | 'commit' | 'at'>> {
  const root = new URL('../../../', import.meta.url);
  const { version } = JSON.parse(await readFile(new URL('package.json', root), 'utf8')) as { version: string };
  const git = promisify(execFile)('git', ['rev-parse', '--show-prefix', 'HEAD'], { cwd: root });
  const [prefix, head = ''] = await git.then(({ stdout }) => stdout.split('\n')).catch(() => []);
  const commit = prefix === '' ? head : '';
  return { quern: version, commit, at: new Date().toISOString() };
}
