/** `quern up`: the whole mesh on this machine, supervised. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readContentPolicy } from '#kit/audit/content-policy.ts';
import { QuernError } from '#kit/errors.ts';
import { isLocal, parseAddress } from '#kit/rpc/address.ts';
import { runtimeDir } from '#kit/rpc/socket-path.ts';
import type { Command, Io } from '../command.ts';
import { HTTP_DEFAULT } from '../config.ts';
import { choice, parseOptions, wholeNumber } from '../options.ts';
import { type AuditPlan, type AuditSettings, auditRows, planAudit } from '../up/audit-plan.ts';
import { runMesh } from '../up/mesh.ts';
import { type MeshRecord, runningMeshes, sweepMeshFolders } from '../up/mesh-folder.ts';
import { parseModels } from '../up/model-folder.ts';
import { planProcesses, type UpOptions } from '../up/plan.ts';
import { findFreePort, requireFreePort, splitAddress } from '../up/ports.ts';
import { jsonReporter, textReporter } from '../up/reporter.ts';
import { compileTools } from '../up/tools-compile.ts';
import { type ToolsPlan, toolsCompileCache, toolsFolder, toolsView } from '../up/tools-plan.ts';
import { planTraces, traceRows, traceUi } from '../up/trace-plan.ts';

const TOKENIZER_METRICS_PORT = 9152;
const ENGINE_METRICS_PORT = 9153; // and those that follow
const TOOLS_METRICS_PORT = 9154;
const AUDIT_METRICS_PORT = 9155;

const OPTIONS = {
  model: { type: 'string', multiple: true },
  http: { type: 'string' },
  grpc: { type: 'string' },
  threads: { type: 'string' },
  dtype: { type: 'string' },
  'context-length': { type: 'string' },
  nats: { type: 'string' },
  'no-audit': { type: 'boolean' },
  'no-tools': { type: 'boolean' },
  'no-traces': { type: 'boolean' },
  verbose: { type: 'boolean' },
  json: { type: 'boolean' },
} as const;

/** What vLLM and llama.cpp's server call it. */
const ELSEWHERE = {
  '--port': '--http HOST:PORT',
  '--host': '--http HOST:PORT',
  '--ctx-size': '--context-length',
  '--max-model-len': '--context-length',
  '--served-model-name': '--model NAME=DIR',
  '--api-key': 'a key of quern keys create, its file in QUERN_KEYS_FILE',
  '-c': '--context-length',
  '-m': '--model',
  '-t': '--threads',
} as const;

export const up: Command = {
  help: `usage: quern up [options]

Starts tokenizer, engine (one process per model), gateway and, for the audit log, nats-server and the audit service,
and Jaeger for traces where there is one;
restarts what dies, and drains on Ctrl-C or SIGTERM.

  --model [NAME=]DIR     Hugging Face folder; repeat for several models (default: QUERN_MODEL, else the bundled quern-mini)
  --http HOST:PORT       OpenAI-style HTTP (default 127.0.0.1:8000)
  --grpc HOST:PORT       gRPC (default 127.0.0.1:50051)
  --threads N            engine threads (default: what the machine allows)
  --dtype auto|bf16|f32  weights in memory (default auto)
  --context-length N     tokens per sequence (default: the model's, lowered to what memory holds)
  --nats URL             use this NATS for the audit log (default: QUERN_NATS_URL, else an own nats-server)
  --no-audit             record nothing
  --no-tools             run no tools
  --no-traces            export no spans (default: to QUERN_OTLP_ENDPOINT, else to an own Jaeger where there is one)
  --verbose              the services' log lines on standard error too; they always go to files in the state folder
  --json                 events as JSON lines instead of text`,
  ownsSignals: true,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, OPTIONS, ELSEWHERE);
    if (positionals.length > 0) refuseWords(positionals);
    const { root, env, stateDir, xdgRuntimeDir } = io.config;
    const http = values.http ?? io.config.httpListen;
    const grpc = values.grpc ?? io.config.grpcListen;
    for (const [option, address] of Object.entries({ '--http': http, '--grpc': grpc })) splitAddress(address, option);
    const models = parseModels(values.model ?? modelsFromConfig(io), process.cwd());
    requireAddon(io.config.addon);
    requireKeys(io.config.keysFile, { '--http': http, '--grpc': grpc });
    // The gateway reads it again; here a mistake is told before anything was started.
    const { contentPolicy } = io.config;
    if (contentPolicy !== undefined && !values['no-audit']) await readContentPolicy(contentPolicy);
    await requireFreePort(http, '--http');
    await requireFreePort(grpc, '--grpc');
    sweepMeshFolders(io.config.runtimeParents);
    const isFirst = http === HTTP_DEFAULT;
    const metricsPorts = await chooseMetricsPorts(models.length, isFirst);
    const taken = [metricsPorts.tokenizer, ...metricsPorts.engines];
    const metricsPort = await findFreePort(isFirst ? AUDIT_METRICS_PORT : undefined, taken);
    const audit = await chooseAudit(io, { off: values['no-audit'] ?? false, nats: values.nats, metricsPort });
    const traces = await planTraces({ ...io.config, off: values['no-traces'] ?? false });
    // One folder per supervisor, so that two meshes of one user never meet.
    const folder = runtimeDir({ seed: `${stateDir}\0${process.pid}`, xdgRuntimeDir });
    const tools = values['no-tools'] ? undefined : await chooseTools(io, isFirst, [...taken, metricsPort]);
    const plan = planProcesses({
      models,
      audit,
      tools,
      traces,
      metricsPorts,
      http,
      grpc,
      ...engineOptions(values),
      runtimeDir: folder,
      root,
      node: process.execPath,
      env,
    });
    const report = values.json ? jsonReporter(io.stdout) : textReporter(io.stdout);
    const names = models.map(({ name }) => name);
    const settings = { report, io, folder, models: names, verbose: values.verbose ?? false };
    const notStarted = [...auditRows(audit), ...traceRows(traces)];
    const outbox = audit.kind === 'off' ? null : audit.folders.outbox;
    return runMesh(plan, { ...settings, audited: outbox !== null, outbox, traces: traceUi(traces), notStarted });
  },
};

/** npm keeps options that do not stand behind "--" for itself, and passes their values on. */
function refuseWords(words: readonly string[]): never {
  const got = words.join(' ');
  const message = `quern up takes options only, got "${got}"; npm wants "--" before them: npm start -- --http HOST:PORT`;
  throw new QuernError('INVALID_ARGUMENT', message);
}

type EngineValues = { threads?: string | undefined; dtype?: string | undefined; 'context-length'?: string | undefined };

/** What the engines are told; undefined: they choose. */
function engineOptions(values: EngineValues): Pick<UpOptions, 'threads' | 'dtype' | 'contextLength'> {
  const { threads, dtype, 'context-length': length } = values;
  return {
    threads: threads === undefined ? undefined : wholeNumber('threads', threads, 0, 1, 1024),
    dtype: choice('dtype', dtype, ['auto', 'bf16', 'f32']),
    contextLength: length === undefined ? undefined : wholeNumber('context-length', length, 0, 16, 10_000_000),
  };
}

async function chooseTools({ config }: Io, isFirst: boolean, taken: readonly number[]): Promise<ToolsPlan> {
  const { stateDir, toolsDir, toolsUid, places, root } = config;
  const checkout = { root, node: process.execPath };
  const plan = {
    dir: toolsFolder(stateDir, toolsDir),
    metricsPort: await findFreePort(isFirst ? TOOLS_METRICS_PORT : undefined, taken),
    compileCache: toolsCompileCache(places.caches[0] ?? stateDir),
    view: await toolsView(checkout, toolsUid),
  };
  await compileTools(plan, { ...checkout, path: places.path });
  return plan;
}

type AuditChoice = Pick<AuditSettings, 'off' | 'nats' | 'metricsPort'>;

function chooseAudit({ config }: Io, { off, nats, metricsPort }: AuditChoice): Promise<AuditPlan> {
  const { stateDir, auditFolders: folders, places } = config;
  if (!off) requireOwnState(stateDir, runningMeshes(config.runtimeParents));
  return planAudit({ off, nats: nats ?? config.nats, metricsPort, stateDir, folders, places });
}

/** One log has one writer: two meshes cannot share a state folder's. */
function requireOwnState(stateDir: string, running: readonly MeshRecord[]): void {
  const other = running.find((mesh) => mesh.audited && mesh.stateDir === stateDir);
  if (other === undefined) return;
  throw new QuernError(
    'FAILED_PRECONDITION',
    `the mesh with pid ${other.pid} keeps its audit log in ${stateDir}; give this one a folder of its own with ` +
      'QUERN_STATE_DIR, or start it with --no-audit',
  );
}

function modelsFromConfig(io: Io): string[] {
  if (io.config.model !== undefined) return io.config.model.split(',').map((text) => text.trim());
  return [join(io.config.root, 'models', 'quern-mini')];
}

/** The first mesh of a machine has the ports that a scraper's configuration names; a further one takes what is free. */
async function chooseMetricsPorts(engineCount: number, first: boolean): Promise<UpOptions['metricsPorts']> {
  const tokenizer = await findFreePort(first ? TOKENIZER_METRICS_PORT : undefined, []);
  const engines: number[] = [];
  while (engines.length < engineCount) {
    const preferred = first ? ENGINE_METRICS_PORT + engines.length : undefined;
    engines.push(await findFreePort(preferred, [tokenizer, ...engines]));
  }
  return { tokenizer, engines };
}

/** What the gateway would refuse after the model is loaded. */
function requireKeys(file: string | undefined, addresses: Record<string, string>): void {
  if (file !== undefined && !existsSync(file)) {
    throw new QuernError(
      'FAILED_PRECONDITION',
      `QUERN_KEYS_FILE: ${file} does not exist; its first key makes it: quern keys create --file ${file} --tenant T --user U`,
    );
  }
  const open = Object.entries(addresses).find(([, address]) => !isLocal(parseAddress(address)));
  if (file === undefined && open !== undefined) {
    throw new QuernError(
      'FAILED_PRECONDITION',
      `${open.join(' ')}: expected API keys to listen beyond this machine; ` +
        'make one with quern keys create and set QUERN_KEYS_FILE, or bind 127.0.0.1',
    );
  }
}

function requireAddon(file: string): void {
  if (existsSync(file)) return;
  throw new QuernError(
    'FAILED_PRECONDITION',
    `the native engine is not built (${file} is missing); run "npm run build:native", or "npm start", which does it`,
  );
}
