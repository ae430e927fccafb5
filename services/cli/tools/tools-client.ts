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
import { type Found, findService } from '../service-address.ts';
import { explainSilence } from '../silence.ts';
import type { MeshRecord } from '../up/mesh-folder.ts';

export const TOOLS_OPTIONS = { address: { type: 'string' } } as const;

const CONNECT_TIMEOUT_MS = 10_000;
/** Testing the whole sandbox takes about a second, more on a busy machine. */
const PROBE_TIMEOUT_MS = 60_000;

const socketOf = ({ parts }: MeshRecord): string | undefined =>
  parts.find(({ kind }) => kind === 'tools')?.addresses[0];

function nowhere([mesh]: readonly MeshRecord[]): QuernError {
  const what =
    mesh === undefined
      ? 'no mesh of this user runs here; start one with "npm start", or name the tool service with --address'
      : `the mesh with pid ${mesh.pid} was started without tools (--no-tools)`;
  return new QuernError('FAILED_PRECONDITION', what, { reason: 'NO_TOOL_SERVICE' });
}

/** --address, QUERN_TOOLS_ADDRESS, the mesh of this state folder, the only mesh: in this order. */
function findTools(given: string | undefined, io: Io): Found {
  const variable = 'QUERN_TOOLS_ADDRESS';
  const set = io.config.toolsAddress;
  return findService({ option: '--address', given, variable, set, addressOf: socketOf, otherwise: nowhere }, io);
}

export const toolsAddress = (given: string | undefined, io: Io): string => findTools(given, io).address;

export function explain(error: unknown, { address, source }: Found): unknown {
  if (!(error instanceof QuernError)) return error;
  const { code, message } = error;
  if (code === 'UNAUTHENTICATED') {
    const text = `${message} (QUERN_INTERNAL_TOKEN or QUERN_INTERNAL_TOKEN_FILE, as for the services)`;
    return new QuernError(code, text, error.details, { cause: error });
  }
  if (code === 'NOT_FOUND' && message.includes('ListTools'))
    return new QuernError(code, message.replace('ListTools', 'quern tools list'), error.details, { cause: error });
  return explainSilence('tool service', `${address}${source}`, error) ?? error;
}

export type ToolsClient = ReturnType<typeof connectTools>;

/** close() when done. */
export function connectTools(given: string | undefined, io: Io) {
  const found = findTools(given, io);
  const { address } = found;
  const client = openChannel(ToolServiceClient, { address, ...channelAccess(readInternalAccess(io.config.env)) });
  const { signal } = io;
  const once = { signal, timeoutMs: CONNECT_TIMEOUT_MS };
  const explained = (error: unknown): never => {
    throw explain(error, found);
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
