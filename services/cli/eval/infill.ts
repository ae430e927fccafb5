/** `quern eval infill`: cuts holes, has a mesh fill them, stores and compares what came. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { connect, GATEWAY_OPTIONS, type GatewayClient } from '../gateway-client.ts';
import { choice, parseOptions, wholeNumber } from '../options.ts';
import { askAll, MAX_TOKENS, TEMPERATURE } from './ask.ts';
import { compareAndPrint, demandsOf, failedDemands } from './demands.ts';
import { figuresOf } from './figures.ts';
import { cutHoles, EDITOR_WINDOW, type Hole, KINDS, type Kind, type Window } from './holes.ts';
import { formatFigures } from './print.ts';
import { seededRandom } from './random.ts';
import { checkWritable, type Evaluation, newRun, type Run, readEvaluation, writeEvaluation } from './result.ts';
import { heldOutSources, type Source, sha256, sourcesIn } from './sources.ts';
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
  out: { type: 'string' },
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

type Plan = { kind: Kind; seed: number; wanted: number; concurrency: number; withText: boolean; window: Window };

export async function evalInfill(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseOptions(args, OPTIONS);
  if (positionals.length > 0) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `expected no further words, got "${positionals.join(' ')}"; folders go after --sources`,
    );
  }
  const plan: Plan = {
    kind: choice('kind', values.kind, KINDS) ?? 'line',
    seed: wholeNumber('seed', values.seed, SEED_DEFAULT, 0, 0xffffffff),
    wanted: wholeNumber('holes', values.holes, HOLES_DEFAULT, 1, HOLES_MAX),
    concurrency: wholeNumber('concurrency', values.concurrency, CONCURRENCY_DEFAULT, 1, 64),
    withText: values['with-text'] ?? false,
    window: {
      before: wholeNumber('before', values.before, EDITOR_WINDOW.before, 1, LINES_MAX),
      after: wholeNumber('after', values.after, EDITOR_WINDOW.after, 1, LINES_MAX),
    },
  };
  const demands = demandsOf(values['fail-below'] ?? [], values['fail-on-regression'] ?? false, values.compare);
  // Everything that can be wrong here is found before the model works.
  const earlier = values.compare === undefined ? null : await readEvaluation(values.compare);
  if (values.out !== undefined) await checkWritable(values.out);
  const sources = values.sources === undefined ? await heldOutSources() : await sourcesIn(values.sources);
  const syntax = await openSyntax();
  const gateway = connect(values, io);
  try {
    const model = await describe(gateway, values.model ?? '', io.signal);
    const { holes, readings } = await cut(sources, plan, syntax, io);
    const run = newRun({ ...(await here()), model, settings: settingsOf(plan, sources, values.sources) });
    const { concurrency, withText, window } = plan;
    const rows = await askAll(holes, {
      ...{ gateway, model: model.name, syntax, readings, concurrency, withText, window, signal: io.signal },
      onProgress: (done) => progress(io, done, holes.length),
    });
    const evaluation = { run, rows };
    if (values.out !== undefined) await writeEvaluation(values.out, evaluation);
    return tell(evaluation, { earlier, demands, json: values.json ?? false }, io);
  } finally {
    gateway.close();
    syntax.close();
  }
}

type Told = { earlier: Evaluation | null; demands: ReturnType<typeof demandsOf>; json: boolean };

/** Prints figures and differences; 0 when all holes were answered and nothing that was demanded is missed. */
function tell(evaluation: Evaluation, { earlier, demands, json }: Told, io: Io): number {
  const { run, rows } = evaluation;
  const groups = figuresOf(rows, run.settings.seed);
  if (json) io.stdout.write(`${JSON.stringify({ ...run, figures: groups })}\n`);
  else io.stdout.write(formatFigures(run, groups));
  const comparison = earlier === null ? null : compareAndPrint(earlier, evaluation, json, io);
  const missed = failedDemands(demands, groups.at(-1), comparison);
  for (const line of missed) io.stderr.write(`quern: ${line}\n`);
  return missed.length === 0 && rows.every(({ failure }) => failure === null) ? 0 : 1;
}

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
  };
}

async function cut(sources: readonly Source[], { kind, wanted, seed }: Plan, syntax: Syntax, io: Io) {
  const files: { source: Source; reading: Reading }[] = [];
  for (const source of sources) {
    io.signal.throwIfAborted();
    files.push({ source, reading: await syntax.read(source.text, source.language) });
  }
  const holes: Hole[] = cutHoles(files, kind, wanted, seededRandom(seed));
  if (holes.length === 0) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `no place for a ${kind} hole in ${sources.length} files; see quern eval --help`,
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
    sources: given === undefined ? 'the held-out set' : 'the given folders',
    sources_hash: sha256(
      sources
        .map((source) => source.sha256)
        .sort()
        .join('\n'),
    ),
  };
}

/** Which Quern this is; the commit is "" outside of a checkout. */
async function here(): Promise<Pick<Run, 'quern' | 'commit' | 'at'>> {
  const root = new URL('../../../', import.meta.url);
  const { version } = JSON.parse(await readFile(new URL('package.json', root), 'utf8')) as { version: string };
  const git = promisify(execFile)('git', ['rev-parse', 'HEAD'], { cwd: root });
  const commit = await git.then(({ stdout }) => stdout.trim()).catch(() => '');
  return { quern: version, commit, at: new Date().toISOString() };
}

function progress({ stderr }: Io, done: number, all: number): void {
  if (stderr.isTTY) stderr.write(done === all ? '\r\u001b[K' : `\r${done}/${all}`);
}
