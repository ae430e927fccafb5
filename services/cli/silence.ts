/** A service that does not answer, in words: what gRPC's library says of a connection is for those who read its source. */
import { QuernError } from '#kit/errors.ts';

/** The library's own words for a connection that broke, some of them under a code of their own. */
const BROKEN = /RST_STREAM|ECONNRESET|EPIPE|socket hang up/;

/** "there is no such socket"; "" when the library says no more than that there is no connection. */
function cause(message: string): string {
  if (/ENOENT/.test(message)) return 'there is no such socket';
  if (/ECONNREFUSED/.test(message)) return 'nothing listens there';
  if (/EACCES/.test(message)) return 'this user may not open the socket';
  if (/ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/.test(message)) return 'the host cannot be reached';
  if (/Protocol error/.test(message)) return 'what listens there does not speak gRPC';
  return '';
}

function sentence(service: string, address: string, { code, message }: QuernError): string | null {
  if (code === 'DEADLINE_EXCEEDED' && /^Deadline exceeded after/.test(message)) {
    return `the ${service} at ${address} did not answer in time; see its log`;
  }
  if (code !== 'UNAVAILABLE' && !(code === 'INTERNAL' && BROKEN.test(message))) return null;
  const look = '; see its row in the table of quern up, or its log';
  if (/Name resolution/.test(message)) return `no host is called so: ${address}`;
  const why = cause(message);
  if (why !== '') return `no ${service} answers at ${address}: ${why}${look}`;
  if (/No connection/.test(message)) return `no ${service} answers at ${address}${look}`;
  return `the connection to the ${service} at ${address} broke; what was asked of it may have been done or not${look}`;
}

/** What a command says instead of gRPC's own words; null: the service itself said it, which stays as it is. `service`: "tool service". */
export function explainSilence(service: string, address: string, error: QuernError): QuernError | null {
  if (error.details.reason !== error.code) return null;
  const text = sentence(service, address, error);
  const code = error.code === 'INTERNAL' ? 'UNAVAILABLE' : error.code;
  return text === null ? null : new QuernError(code, text, error.details, { cause: error });
}
