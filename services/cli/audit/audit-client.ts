/** The audit service of the running mesh, or the one that --address names. */
import {
  AuditServiceClient,
  type EraseRequest,
  type EraseResponse,
  type ExportRequest,
  type ExportResponse,
  type GetHeadResponse,
  type QueryRequest,
  type QueryResponse,
  type TailRequest,
  type TailResponse,
  type VerifyRequest,
  type VerifyResponse,
} from '#gen/quern/audit/v1/audit.ts';
import { QuernError } from '#kit/errors.ts';
import { channelAccess } from '#kit/internal-access.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import type { Io } from '../command.ts';
import { readAuditAccess } from '../config.ts';
import { type Found, findService } from '../service-address.ts';
import { explainSilence } from '../silence.ts';
import type { MeshRecord } from '../up/mesh-folder.ts';
import { GET_NATS } from '../up/nats-server.ts';

export const AUDIT_OPTIONS = { address: { type: 'string' } } as const;

/** A log of many records is read for long; a service that says nothing at all is given up. */
const CONNECT_TIMEOUT_MS = 10_000;

const socketOf = ({ parts }: MeshRecord): string | undefined =>
  parts.find(({ kind }) => kind === 'audit')?.addresses[0];

function nowhere([mesh]: readonly MeshRecord[]): QuernError {
  const what =
    mesh === undefined
      ? 'no mesh of this user runs here; start one with "npm start", or name the audit service with --address'
      : mesh.audited
        ? `the mesh with pid ${mesh.pid} runs without an audit service, for want of a nats-server: its records wait in the ` +
          `outbox; "${GET_NATS}" builds one, then start the mesh again`
        : `the mesh with pid ${mesh.pid} was started with --no-audit: there is no log to ask`;
  return new QuernError('FAILED_PRECONDITION', what, { reason: 'NO_AUDIT_SERVICE' });
}

/** --address, QUERN_AUDIT_ADDRESS, the mesh of this state folder, the only mesh: in this order. */
function findAudit(given: string | undefined, io: Io): Found {
  const variable = 'QUERN_AUDIT_ADDRESS';
  const set = io.config.auditAddress;
  return findService({ option: '--address', given, variable, set, addressOf: socketOf, otherwise: nowhere }, io);
}

export function explain(error: unknown, { address, source }: Found): unknown {
  if (!(error instanceof QuernError)) return error;
  const { code, message } = error;
  if (code === 'UNAUTHENTICATED') {
    const text = `${message} (QUERN_AUDIT_OPERATOR_TOKEN or QUERN_AUDIT_OPERATOR_TOKEN_FILE, as the audit service has it)`;
    return new QuernError(code, text, error.details, { cause: error });
  }
  const silence = explainSilence('audit service', `${address}${source}`, error);
  if (silence?.code !== 'UNAVAILABLE') return silence ?? error;
  const text = `${silence.message}; "quern audit verify DIR" checks its folder without it`;
  return new QuernError('UNAVAILABLE', text, error.details, { cause: error });
}

export type AuditClient = ReturnType<typeof connectAudit>;

/** close() when done. */
export function connectAudit(given: string | undefined, io: Io) {
  const found = findAudit(given, io);
  const { address } = found;
  const client = openChannel(AuditServiceClient, { address, ...channelAccess(readAuditAccess(io.config.env)) });
  const { signal } = io;
  const once = { signal, timeoutMs: CONNECT_TIMEOUT_MS };
  const explained = (error: unknown): never => {
    throw explain(error, found);
  };
  async function* streamed<T>(answers: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    try {
      yield* answers;
    } catch (error) {
      explained(error);
    }
  }
  return {
    address,
    head: (): Promise<GetHeadResponse> => unary(client, 'getHead', {}, once).catch(explained),
    erase: (request: EraseRequest): Promise<EraseResponse> => unary(client, 'erase', request, once).catch(explained),
    query: (request: QueryRequest): AsyncGenerator<QueryResponse> =>
      streamed(serverStream(client, 'query', request, { signal })),
    tail: (request: TailRequest): AsyncGenerator<TailResponse> =>
      streamed(serverStream(client, 'tail', request, { signal })),
    verify: (request: VerifyRequest): AsyncGenerator<VerifyResponse> =>
      streamed(serverStream(client, 'verify', request, { signal })),
    export: (request: ExportRequest): AsyncGenerator<ExportResponse> =>
      streamed(serverStream(client, 'export', request, { signal })),
    close: (): void => client.close(),
  };
}
