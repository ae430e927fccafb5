/** The tool service of the running mesh, or the one that --address names. */
import {
  type ApproveRequest,
  type DenyRequest,
  type ExecuteRequest,
  type ExecuteResponse,
  type GetCapabilitiesResponse,
  type ListToolsRequest,
  type ListToolsResponse,
  ToolServiceClient,
} from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { channelAccess } from '#kit/internal-access.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import type { TraceContext } from '#kit/trace.ts';
import type { Io } from '../command.ts';
import { readInternalAccess } from '../config.ts';
import { explainSilence } from '../silence.ts';
import { type MeshRecord, runningMeshes } from '../up/mesh-folder.ts';

export const TOOLS_OPTIONS = { address: { type: 'string' } } as const;

const CONNECT_TIMEOUT_MS = 10_000;
/** Testing the whole sandbox takes about a second, more on a busy machine. */
const PROBE_TIMEOUT_MS = 60_000;

const socketOf = ({ parts }: MeshRecord): string | undefined =>
  parts.find(({ kind }) => kind === 'tools')?.addresses[0];

/** --address, QUERN_TOOLS_ADDRESS, the mesh of this state folder, the only mesh: in this order. */
export function toolsAddress(given: string | undefined, { config }: Io): string {
  const named = given ?? config.toolsAddress;
  if (named !== undefined) return named;
  const all = runningMeshes(config.runtimeParents);
  const own = all.find((mesh) => mesh.stateDir === config.stateDir);
  const running = own ? [own] : all;
  const withTools = running.filter((mesh) => socketOf(mesh) !== undefined);
  const [first, ...others] = withTools;
  if (first === undefined) {
    const what =
      running[0] === undefined
        ? 'no mesh of this user runs here; start one with "npm start", or name the tool service with --address'
        : `the mesh with pid ${running[0].pid} was started without tools (--no-tools)`;
    throw new QuernError('FAILED_PRECONDITION', what, { reason: 'NO_TOOL_SERVICE' });
  }
  if (others.length > 0) {
    const choices = withTools.map((mesh) => `--address ${socketOf(mesh)}`).join(' or ');
    throw new QuernError('INVALID_ARGUMENT', `several meshes run here; say which one is meant: ${choices}`);
  }
  return socketOf(first)!;
}

export function explain(error: unknown, address: string): unknown {
  if (!(error instanceof QuernError)) return error;
  const { code, message } = error;
  if (code === 'UNAUTHENTICATED') {
    const text = `${message} (QUERN_INTERNAL_TOKEN or QUERN_INTERNAL_TOKEN_FILE, as for the services)`;
    return new QuernError(code, text, error.details, { cause: error });
  }
  if (code === 'NOT_FOUND' && message.includes('ListTools'))
    return new QuernError(code, message.replace('ListTools', 'quern tools list'), error.details, { cause: error });
  return explainSilence('tool service', address, error) ?? error;
}

export type ToolsClient = ReturnType<typeof connectTools>;

/** close() when done. */
export function connectTools(given: string | undefined, io: Io) {
  const address = toolsAddress(given, io);
  const client = openChannel(ToolServiceClient, { address, ...channelAccess(readInternalAccess(io.config.env)) });
  const { signal } = io;
  const once = { signal, timeoutMs: CONNECT_TIMEOUT_MS };
  const explained = (error: unknown): never => {
    throw explain(error, address);
  };
  return {
    list: (request: ListToolsRequest): Promise<ListToolsResponse> =>
      unary(client, 'listTools', request, once).catch(explained),
    capabilities: (probeNow: boolean): Promise<GetCapabilitiesResponse> =>
      unary(client, 'getCapabilities', { probeNow }, { signal, timeoutMs: PROBE_TIMEOUT_MS }).catch(explained),
    approve: (request: ApproveRequest): Promise<unknown> => unary(client, 'approve', request, once).catch(explained),
    deny: (request: DenyRequest): Promise<unknown> => unary(client, 'deny', request, once).catch(explained),
    async *execute(request: ExecuteRequest, trace: TraceContext): AsyncGenerator<ExecuteResponse, void, undefined> {
      try {
        yield* serverStream(client, 'execute', request, { signal, trace });
      } catch (error) {
        explained(error);
      }
    },
    close: (): void => client.close(),
  };
}
