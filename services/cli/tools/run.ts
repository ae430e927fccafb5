/** `quern tools run`: one tool, its result as JSON. */
import {
  type ApprovalRequired,
  type ExecuteRequest,
  type ExecuteResponse,
  Outcome,
  OutputStream,
  type Result,
} from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { askYesNo } from '../ask.ts';
import type { Io } from '../command.ts';
import { parseOptions, wholeNumber } from '../options.ts';
import { plainSight, textFor } from '../terminal-text.ts';
import { startOwnSpan } from './own-span.ts';
import { connectTools, TOOLS_OPTIONS, type ToolsClient, toolsAddress } from './tools-client.ts';
import { callerOf, WHO_OPTIONS } from './words.ts';

const OPTIONS = {
  ...TOOLS_OPTIONS,
  ...WHO_OPTIONS,
  json: { type: 'string' },
  stdin: { type: 'boolean' },
  session: { type: 'string' },
  timeout: { type: 'string' },
  key: { type: 'string' },
  yes: { type: 'boolean' },
  events: { type: 'boolean' },
} as const;

const TIMEOUT_SECONDS = 300;
const STDIN_BYTES_MAX = 1024 * 1024;

type Output = { stdout: Buffer[]; stderr: Buffer[]; artifacts: { path: string; bytes: number; sha256: string }[] };

async function readStdin(io: Io): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of io.stdin) {
    pieces.push(Buffer.from(piece as Buffer));
    bytes += pieces.at(-1)!.length;
    if (bytes > STDIN_BYTES_MAX) {
      throw new QuernError('INVALID_ARGUMENT', `--stdin: expected at most ${STDIN_BYTES_MAX} bytes, got more`);
    }
  }
  return Buffer.concat(pieces);
}

/** "nonzero_exit" for OUTCOME_NONZERO_EXIT. */
function outcomeText(outcome: Outcome): string {
  const name = Object.entries(Outcome).find(([, value]) => value === outcome)?.[0] ?? String(outcome);
  return name.replace(/^OUTCOME_/, '').toLowerCase();
}

function parsedOr(text: string): unknown {
  return text === '' ? null : (JSON.parse(text) as unknown);
}

function resultObject(
  tool: string,
  result: Result,
  output: Output,
  ids: { execution: string; tier: string; trace: string },
) {
  const { outcome, message, exitCode, signal, content, contentCut, structuredJson, usage, replayed, limitsHit } =
    result;
  return {
    tool,
    outcome: outcomeText(outcome),
    reason: message,
    exit_code: exitCode ?? null,
    signal: signal === '' ? null : signal,
    stdout: Buffer.concat(output.stdout).toString('utf8'),
    stderr: Buffer.concat(output.stderr).toString('utf8'),
    content,
    content_cut: contentCut,
    structured: parsedOr(structuredJson),
    artifacts: output.artifacts,
    tier: ids.tier,
    setup_ms: Number(usage?.setupNs ?? 0n) / 1e6,
    run_ms: Number(usage?.runNs ?? 0n) / 1e6,
    cpu_ms: Number(usage?.cpuNs ?? 0n) / 1e6,
    max_memory_bytes: Number(usage?.maxMemoryBytes ?? 0n),
    limits_hit: limitsHit ? { processes: limitsHit.processes } : null,
    replayed,
    execution_id: ids.execution,
    trace_id: ids.trace,
  };
}

/** Shows exactly what would run. Without a terminal, and without --yes, nobody can say yes. */
async function answer(
  asked: ApprovalRequired,
  request: ExecuteRequest,
  client: ToolsClient,
  io: Io,
  yes: boolean,
): Promise<void> {
  const { approvalId, digest, reason, tool, argumentsJson } = asked;
  const { caller } = request;
  io.stderr.write(`${plainSight(`${tool} asks: ${reason}\n${argumentsJson}`)}\n`);
  let approved = yes;
  if (!yes && io.stdin.isTTY) {
    const said = await askYesNo('Run it?', io, io.signal);
    if (said === null) return; // the call is cancelled
    approved = said;
  }
  if (approved) await client.approve({ caller, approvalId, digest });
  else if (io.stdin.isTTY) await client.deny({ caller, approvalId, reason: '' });
  else {
    io.stderr.write('[not run: there is no terminal to ask on; --yes allows it]\n');
    await client.deny({ caller, approvalId, reason: '', unattended: true });
  }
}

const wrong = (message: string): QuernError => new QuernError('INVALID_ARGUMENT', `quern tools run: ${message}`);

/** The tool and its arguments, a JSON object that stands behind it or behind --json. What is in it, the service judges. */
export function toolAndArguments(
  [tool, behind, ...more]: readonly string[],
  json: string | undefined,
): { tool: string; argumentsJson: string } {
  if (tool === undefined) throw wrong("expected a tool's name, got nothing; quern tools list names them");
  if (tool.trimStart().startsWith('{')) throw wrong(`expected a tool's name before its arguments, got ${tool}`);
  if (behind === undefined) return { tool, argumentsJson: json ?? '{}' };
  const example = `quern tools run ${tool} '{"name": "value"}'`;
  if (!behind.trimStart().startsWith('{')) {
    const words = [behind, ...more].join(' ');
    throw wrong(`expected the arguments of ${tool} as one JSON object, got "${words}"; as in ${example}`);
  }
  if (more.length > 0) {
    throw wrong(`expected one JSON object, got ${1 + more.length} words; quote it for the shell, as in ${example}`);
  }
  if (json !== undefined) throw wrong(`expected the arguments once, got them behind ${tool} and behind --json`);
  return { tool, argumentsJson: behind };
}

export async function runTool(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseOptions(args, OPTIONS);
  const { tool, argumentsJson } = toolAndArguments(positionals, values.json);
  const request: ExecuteRequest = {
    caller: callerOf(values, { session: values.session ?? 'cli', request: uuidv7() }),
    callId: uuidv7(),
    idempotencyKey: values.key ?? '',
    tool,
    toolSha256: Buffer.alloc(0),
    argumentsJson,
    stdin: values.stdin ? await readStdin(io) : Buffer.alloc(0),
    limits: undefined,
    timeoutMs: wholeNumber('timeout', values.timeout, TIMEOUT_SECONDS, 1, 3600) * 1000,
    depth: 0,
    taint: undefined,
  };
  const client = connectTools(values.address, io);
  const { span, end } = await startOwnSpan(`quern tools run ${tool}`, toolsAddress(values.address, io), io);
  let failed: string | null = 'UNKNOWN';
  try {
    const output: Output = { stdout: [], stderr: [], artifacts: [] };
    const ids = { execution: '', tier: '', trace: span.context.traceId };
    let result: Result | null = null;
    for await (const response of client.execute(request, span.context)) {
      if (values.events) io.stderr.write(`${response.sequence} ${response.event?.$case}\n`);
      const { event } = response;
      if (event?.$case === 'approvalRequired') await answer(event.value, request, client, io, values.yes ?? false);
      else result = take(event, output, ids) ?? result;
    }
    if (!result)
      throw new QuernError('UNAVAILABLE', 'the call ended without a result; see the log of the tool service');
    const text = JSON.stringify(resultObject(tool, result, output, ids), null, 2);
    io.stdout.write(`${textFor(io.stdout, text)}\n`);
    failed = result.outcome === Outcome.OUTCOME_OK ? null : outcomeText(result.outcome).toUpperCase();
    return failed === null ? 0 : 1;
  } finally {
    client.close();
    await end(failed);
  }
}

/** Answers the result when it is one. */
function take(
  event: ExecuteResponse['event'],
  output: Output,
  ids: { execution: string; tier: string },
): Result | null {
  if (event?.$case === 'started') {
    ids.execution = event.value.executionId;
    ids.tier = event.value.tier;
  } else if (event?.$case === 'output') {
    const { stream, data } = event.value;
    (stream === OutputStream.OUTPUT_STREAM_STDERR ? output.stderr : output.stdout).push(data);
  } else if (event?.$case === 'artifact') {
    const { path, size, sha256 } = event.value;
    output.artifacts.push({ path, bytes: Number(size), sha256: sha256.toString('hex') });
  }
  return event?.$case === 'result' ? event.value : null;
}
