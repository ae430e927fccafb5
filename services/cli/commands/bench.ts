/** `quern bench`: load a running mesh and print vLLM's serving figures. */
import { cpus, loadavg } from 'node:os';
import { QuernError } from '#kit/errors.ts';
import { grpcTransport } from '../bench/grpc-transport.ts';
import { httpTransport } from '../bench/http-transport.ts';
import { type Progress, startProgress } from '../bench/progress.ts';
import { formatReport, type Sample, summarize } from '../bench/report.ts';
import { SCENARIOS, type Scenario } from '../bench/scenarios.ts';
import type { Transport } from '../bench/transport.ts';
import type { Command, Io } from '../command.ts';
import { HTTP_DEFAULT } from '../config.ts';
import { connect, GATEWAY_OPTIONS } from '../gateway-client.ts';
import { parseOptions, wholeNumber } from '../options.ts';
import { textFor } from '../terminal-text.ts';
import { callAddress, runningMeshes } from '../up/mesh-folder.ts';

export const bench: Command = {
  help: `usage: quern bench [options]

Sends requests to a running mesh and prints throughput, TTFT, TPOT, ITL and E2EL under vLLM's field names. Exit code 1 when
a scenario completed nothing.

  --scenario NAME      ${Object.keys(SCENARIOS).join(' | ')} (default: all)
  --concurrency N      clients that each wait for their answer (default 4)
  --requests N         requests per scenario (default 32)
  --transport T        grpc | http | both (default grpc)
  --http HOST:PORT     HTTP address (default: QUERN_GATEWAY_HTTP, else that of the mesh at --gateway, else 127.0.0.1:8000)
  --model NAME         (default: the only served model)
  --slo-ttft-ms N      goodput: TTFT limit (default 5000)
  --slo-tpot-ms N      goodput: TPOT limit (default 150)
  --json               one JSON line per scenario instead of the table
  --gateway ADDR, --ca FILE, --api-key KEY`,
  async run(args, io) {
    const { values } = parseOptions(args, {
      ...GATEWAY_OPTIONS,
      scenario: { type: 'string' },
      concurrency: { type: 'string' },
      requests: { type: 'string' },
      transport: { type: 'string' },
      http: { type: 'string' },
      model: { type: 'string' },
      'slo-ttft-ms': { type: 'string' },
      'slo-tpot-ms': { type: 'string' },
      json: { type: 'boolean' },
    });
    const concurrency = wholeNumber('concurrency', values.concurrency, 4, 1, 1024);
    const requests = wholeNumber('requests', values.requests, 32, 1, 1_000_000);
    const slo = {
      ttftMs: wholeNumber('slo-ttft-ms', values['slo-ttft-ms'], 5000, 1, 3_600_000),
      tpotMs: wholeNumber('slo-tpot-ms', values['slo-tpot-ms'], 150, 1, 3_600_000),
    };
    const names = scenarioNames(values.scenario);
    const gateway = connect(values, io);
    let worked = true;
    try {
      const model = values.model ?? (await onlyModel(gateway, io));
      const http = httpTransport(
        { address: values.http ?? httpOf(gateway.address, io), tls: gateway.tls },
        values['api-key'] ?? io.config.apiKey,
        model,
      );
      for (const transport of chooseTransports(values.transport ?? 'grpc', grpcTransport(gateway, model), http)) {
        for (const name of names) {
          const scenario = SCENARIOS[name] as Scenario;
          const progress = startProgress(io, `${name} over ${transport.name}`, requests);
          const load = { concurrency, requests, progress };
          const { samples, durationS } = await runScenario(scenario, transport, load, io.signal).finally(progress.end);
          const report = summarize(samples, durationS, slo);
          io.stdout.write(
            values.json
              ? jsonLine(name, transport, concurrency, report)
              : heading(name, scenario, transport, concurrency) + formatReport(report),
          );
          const failure = samples.find((sample) => !sample.ok);
          if (failure !== undefined) io.stderr.write(`first failure: ${textFor(io.stderr, failure.error ?? '')}\n`);
          worked &&= report.completed !== 0;
          if (io.signal.aborted) return 130;
        }
      }
      return worked ? 0 : 1;
    } finally {
      gateway.close();
    }
  },
};

function scenarioNames(wanted: string | undefined): string[] {
  if (wanted === undefined) return Object.keys(SCENARIOS);
  if (Object.hasOwn(SCENARIOS, wanted)) return [wanted];
  throw new QuernError(
    'INVALID_ARGUMENT',
    `--scenario: expected one of ${Object.keys(SCENARIOS).join(', ')}, got "${wanted}"`,
  );
}

function chooseTransports(wanted: string, grpc: Transport, http: Transport): Transport[] {
  const choices: Record<string, Transport[]> = { grpc: [grpc], http: [http], both: [grpc, http] };
  const chosen = Object.hasOwn(choices, wanted) ? choices[wanted] : undefined;
  if (chosen === undefined)
    throw new QuernError('INVALID_ARGUMENT', `--transport: expected grpc, http or both, got "${wanted}"`);
  return chosen;
}

/** The HTTP side of the mesh whose gRPC address is known; what is set wins. */
function httpOf(grpc: string, { config }: Io): string {
  if (config.http !== undefined) return config.http;
  return runningMeshes(config.runtimeParents).find((mesh) => callAddress(mesh.grpc) === grpc)?.http || HTTP_DEFAULT;
}

async function onlyModel(gateway: ReturnType<typeof connect>, io: Io): Promise<string> {
  const { models } = await gateway.listModels({ signal: io.signal });
  const [first] = models;
  if (first === undefined || models.length > 1) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `the mesh serves ${models.length} models (${models.map(({ name }) => name).join(', ')}); choose one with --model`,
    );
  }
  return first.name;
}

async function runScenario(
  scenario: Scenario,
  transport: Transport,
  load: { concurrency: number; requests: number; progress: Progress },
  signal: AbortSignal,
) {
  const warmUp = Math.min(2 * load.concurrency, 8);
  for (let index = 0; index < warmUp && !signal.aborted; index++)
    await sendOne(scenario, transport, 900_000 + index, [], signal);
  load.progress.begin();
  const samples: Sample[] = [];
  let next = 0;
  const started = performance.now();
  const client = async (): Promise<void> => {
    let history: { role: 'user' | 'assistant'; content: string }[] = [];
    for (let index = next++; index < load.requests && !signal.aborted; index = next++) {
      if (history.length >= 2 * scenario.turns) history = [];
      const { sample, turn } = await sendOne(scenario, transport, index, scenario.turns > 1 ? history : [], signal);
      samples.push(sample);
      if (scenario.turns > 1) history.push(...turn);
      load.progress.step();
    }
  };
  await Promise.all(Array.from({ length: load.concurrency }, client));
  return { samples, durationS: (performance.now() - started) / 1000 };
}

async function sendOne(
  scenario: Scenario,
  transport: Transport,
  index: number,
  history: { role: 'user' | 'assistant'; content: string }[],
  signal: AbortSignal,
) {
  const request = scenario.request(index, history);
  const sent = performance.now();
  const stamps: number[] = [];
  const elapsed = (): number => performance.now() - sent;
  try {
    const answer = await transport.send(request, () => stamps.push(elapsed()), signal);
    const e2elMs = elapsed();
    const itlsMs = stamps.slice(1).map((stamp, at) => stamp - (stamps[at] as number));
    const sample: Sample = { ok: true, ttftMs: stamps[0] ?? e2elMs, e2elMs, itlsMs, ...answer };
    const asked = request.kind === 'chat' ? request.messages.slice(-1) : [];
    return { sample, turn: [...asked, { role: 'assistant' as const, content: answer.text }] };
  } catch (error) {
    const sample: Sample = {
      ok: false,
      error: (error as Error).message,
      ttftMs: 0,
      e2elMs: elapsed(),
      itlsMs: [],
      promptTokens: 0,
      cachedTokens: 0,
      outputTokens: 0,
    };
    return { sample, turn: [] };
  }
}

function heading(name: string, scenario: Scenario, transport: Transport, concurrency: number): string {
  const machine = `${cpus()[0]?.model ?? 'unknown CPU'}, load ${(loadavg()[0] ?? 0).toFixed(2)}`;
  return `\n${name}: ${scenario.summary}\n  ${transport.name}, concurrency ${concurrency}, ${machine}\n`;
}

function jsonLine(scenario: string, transport: Transport, concurrency: number, report: Record<string, number>): string {
  const machine = { cpu: cpus()[0]?.model, load: loadavg()[0] };
  return `${JSON.stringify({ scenario, transport: transport.name, max_concurrency: concurrency, ...machine, ...report })}\n`;
}
