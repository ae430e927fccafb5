// The one table code ⇄ gRPC number ⇄ HTTP status ⇄ OpenAI error type, and the error's way over the wire and back:
// google.rpc.Status with ErrorInfo (always), BadRequest (fields) and RetryInfo (retryAfterMs).
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo } from '#gen/google/rpc/error_details.ts';
import { Status } from '#gen/google/rpc/status.ts';
import { CODES, type Code, type ErrorDetails, QuernError, toQuernError } from '#kit/errors.ts';
import { RPC_STATUS_DETAILS_BYTES_MAX, RPC_STATUS_FIELDS_MAX, RPC_STATUS_MESSAGE_BYTES_MAX } from '#kit/limits.ts';
import { fittingUnits } from '#kit/text-cut.ts';

export type OpenAiErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'rate_limit_error'
  | 'server_error';

type Row = { grpc: number; http: number; type: OpenAiErrorType };

/** 499 is nginx's "client closed request". */
export const CODE_TABLE: Readonly<Record<Code, Row>> = {
  CANCELLED: { grpc: 1, http: 499, type: 'invalid_request_error' },
  UNKNOWN: { grpc: 2, http: 500, type: 'server_error' },
  INVALID_ARGUMENT: { grpc: 3, http: 400, type: 'invalid_request_error' },
  DEADLINE_EXCEEDED: { grpc: 4, http: 504, type: 'server_error' },
  NOT_FOUND: { grpc: 5, http: 404, type: 'invalid_request_error' },
  ALREADY_EXISTS: { grpc: 6, http: 409, type: 'invalid_request_error' },
  PERMISSION_DENIED: { grpc: 7, http: 403, type: 'permission_error' },
  RESOURCE_EXHAUSTED: { grpc: 8, http: 429, type: 'rate_limit_error' },
  FAILED_PRECONDITION: { grpc: 9, http: 400, type: 'invalid_request_error' },
  ABORTED: { grpc: 10, http: 409, type: 'invalid_request_error' },
  OUT_OF_RANGE: { grpc: 11, http: 400, type: 'invalid_request_error' },
  UNIMPLEMENTED: { grpc: 12, http: 501, type: 'invalid_request_error' },
  INTERNAL: { grpc: 13, http: 500, type: 'server_error' },
  UNAVAILABLE: { grpc: 14, http: 503, type: 'server_error' },
  DATA_LOSS: { grpc: 15, http: 500, type: 'server_error' },
  UNAUTHENTICATED: { grpc: 16, http: 401, type: 'authentication_error' },
};

const BY_NUMBER: ReadonlyMap<number, Code> = new Map(CODES.map((code) => [CODE_TABLE[code].grpc, code]));

export const ERROR_DOMAIN = 'quern';
const DETAILS_KEY = 'grpc-status-details-bin';
const TYPE_PREFIX = 'type.googleapis.com/google.rpc.';

export function grpcNumber(code: Code): number {
  return CODE_TABLE[code].grpc;
}

/** Numbers outside 1..16 are UNKNOWN, as gRPC prescribes. */
export function codeOfNumber(number: number): Code {
  return BY_NUMBER.get(number) ?? 'UNKNOWN';
}

/** At most `bytes` of UTF-8, cut between characters. */
function cut(text: string, bytes: number): string {
  const whole = text.toWellFormed(); // a lone surrogate would make grpc-js throw while it writes the trailer
  if (Buffer.byteLength(whole) <= bytes) return whole;
  return `${whole.slice(0, fittingUnits(whole, bytes - 3))}…`;
}

function pack(name: string, bytes: Uint8Array): { typeUrl: string; value: Buffer } {
  return { typeUrl: TYPE_PREFIX + name, value: Buffer.from(bytes) };
}

function encodeFields(details: ErrorDetails, count: number): Uint8Array {
  const fieldViolations = (details.fields ?? []).slice(0, count).map((violation) => ({
    field: cut(violation.field, 256),
    description: cut(violation.description, 512),
    reason: '',
    localizedMessage: undefined,
  }));
  return BadRequest.encode({ fieldViolations }).finish();
}

/** The error as google.rpc.Status. Cut to what header blocks hold: first fewer fields, then no metadata. */
export function toStatusProto(thrown: unknown): Status {
  const error = toQuernError(thrown);
  const message = cut(error.message, RPC_STATUS_MESSAGE_BYTES_MAX);
  const { reason, metadata, fields, retryAfterMs } = error.details;
  let fieldCount = Math.min(fields?.length ?? 0, RPC_STATUS_FIELDS_MAX);
  let withMetadata = metadata !== undefined;
  while (true) {
    const entries = withMetadata ? Object.entries(metadata ?? {}) : [];
    const info = {
      reason,
      domain: ERROR_DOMAIN,
      metadata: new Map(entries.map(([k, v]) => [cut(k, 64), cut(v, 512)])),
    };
    const details = [pack('ErrorInfo', ErrorInfo.encode(info).finish())];
    if (fieldCount > 0) details.push(pack('BadRequest', encodeFields(error.details, fieldCount)));
    if (retryAfterMs !== undefined) {
      const ms = Math.max(0, Math.ceil(retryAfterMs));
      const retryDelay = { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
      details.push(pack('RetryInfo', RetryInfo.encode({ retryDelay }).finish()));
    }
    const size = details.reduce(
      (sum, detail) => sum + detail.value.length + detail.typeUrl.length,
      Buffer.byteLength(message),
    );
    if (size <= RPC_STATUS_DETAILS_BYTES_MAX || (fieldCount === 0 && !withMetadata)) {
      return { code: grpcNumber(error.code), message, details };
    }
    if (fieldCount > 0) fieldCount = Math.floor(fieldCount / 2);
    else withMetadata = false;
  }
}

/** A google.rpc.Status as an error; details of other makes are ignored. Status OK (0) is a bug of the sender: UNKNOWN. */
export function fromStatusProto(status: Status): QuernError {
  const details: ErrorDetails = {};
  for (const { typeUrl, value } of status.details) {
    if (typeUrl === `${TYPE_PREFIX}ErrorInfo`) {
      const info = ErrorInfo.decode(value);
      details.reason = info.reason;
      if (info.metadata.size > 0) details.metadata = Object.fromEntries(info.metadata);
    } else if (typeUrl === `${TYPE_PREFIX}BadRequest`) {
      const { fieldViolations } = BadRequest.decode(value);
      details.fields = fieldViolations.map(({ field, description }) => ({ field, description }));
    } else if (typeUrl === `${TYPE_PREFIX}RetryInfo`) {
      const { retryDelay } = RetryInfo.decode(value);
      if (retryDelay) details.retryAfterMs = Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1_000_000;
    }
  }
  return new QuernError(codeOfNumber(status.code), status.message, details);
}

/** The error in grpc-js's form, with details in its trailing metadata. */
export function toServiceError(thrown: unknown): ServiceError {
  const status = toStatusProto(thrown);
  const metadata = new Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(Status.encode(status).finish()));
  return Object.assign(new Error(status.message), { code: status.code, details: status.message, metadata });
}

function isServiceError(thrown: unknown): thrown is ServiceError {
  return thrown instanceof Error && typeof (thrown as { code?: unknown }).code === 'number' && 'metadata' in thrown;
}

/** What a call's end says, with its details when the peer sent them. */
function fromEnd(number: number, message: string, packed: Uint8Array | undefined, cause: unknown): QuernError {
  const code = codeOfNumber(number);
  if (packed !== undefined) {
    try {
      const decoded = fromStatusProto(Status.decode(packed));
      // grpc-status decides: the details may be older than a code set by a proxy.
      return new QuernError(code, decoded.message || message, decoded.details, { cause });
    } catch {
      // Details that do not decode are as good as none.
    }
  }
  return new QuernError(code, message, {}, { cause });
}

/** A grpc-js error as a QuernError. Anything else goes through toQuernError. */
export function fromServiceError(thrown: unknown): QuernError {
  if (!isServiceError(thrown)) return toQuernError(thrown);
  const packed = thrown.metadata?.get(DETAILS_KEY)[0];
  const details = typeof packed === 'string' ? undefined : packed;
  return fromEnd(thrown.code, thrown.details || thrown.message, details, thrown);
}

/** gRPC percent-encodes what a header cannot hold; a peer that encodes wrongly is shown as it wrote. */
function decodeMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The end of a call as its HTTP/2 trailers tell it: null for OK, undefined when they are not gRPC's. */
export function fromTrailers(trailers: Readonly<Record<string, unknown>>): QuernError | null | undefined {
  const { 'grpc-status': status, 'grpc-message': message, [DETAILS_KEY]: packed } = trailers;
  if (status === undefined) return undefined;
  const number = /^\d+$/.test(String(status)) ? Number(status) : grpcNumber('UNKNOWN');
  if (number === 0) return null;
  const details = typeof packed === 'string' ? Buffer.from(packed.split(',', 1)[0] ?? '', 'base64') : undefined;
  return fromEnd(number, decodeMessage(String(message ?? '')), details, undefined);
}

export type HttpError = {
  status: number;
  headers: Record<string, string>;
  body: { error: { message: string; type: OpenAiErrorType; param: string | null; code: string | null } };
};

/** The error as an OpenAI-style HTTP answer: `param` is the first refused field, `code` the reason in lower case. */
export function toHttpError(thrown: unknown): HttpError {
  const error = toQuernError(thrown);
  const { http, type } = CODE_TABLE[error.code];
  const { reason, fields, retryAfterMs } = error.details;
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (retryAfterMs !== undefined) {
    headers['retry-after'] = String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
    headers['retry-after-ms'] = String(Math.max(0, Math.ceil(retryAfterMs)));
  }
  if (error.code === 'UNAUTHENTICATED') headers['www-authenticate'] = 'Bearer';
  const code = reason === error.code ? null : reason.toLowerCase();
  return {
    status: http,
    headers,
    body: { error: { message: error.message, type, param: fields?.[0]?.field ?? null, code } },
  };
}
