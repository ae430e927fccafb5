/** Failures of a call in words that a person at the terminal can act on. */
import { QuernError } from '#kit/errors.ts';
import { callAddress, type MeshRecord } from './up/mesh-folder.ts';

export type CallTarget = {
  address: string;
  /** Whose address it is: ", which QUERN_GATEWAY names"; "" = the caller named it. */
  source?: string;
  /** The call was made over TLS. */
  tls: boolean;
  /** The meshes of this user on this machine. */
  running: () => MeshRecord[];
  /** SERVICE/METHOD with the full name of the service, when the caller chose it by name. */
  method?: string;
};

/** `thrown`, or a QuernError of the same code that says what to do. */
export function explainFailure(thrown: unknown, target: CallTarget): unknown {
  if (!(thrown instanceof QuernError)) return thrown;
  const message = explanation(thrown, target);
  return message === undefined ? thrown : new QuernError(thrown.code, message, thrown.details, { cause: thrown });
}

function explanation({ code, message }: QuernError, target: CallTarget): string | undefined {
  const { address, source = '', method, running } = target;
  if (code === 'UNAUTHENTICATED') return `${message}; give it with --api-key or in QUERN_API_KEY`;
  if (code === 'UNIMPLEMENTED' && method !== undefined && /not implement the method/.test(message)) {
    return wrongAddress(method, address, running());
  }
  const seconds = /^Deadline exceeded after ([\d.]+)s/.exec(message)?.[1]; // grpc-js's own words, not a server's
  if (code === 'DEADLINE_EXCEEDED' && seconds !== undefined) {
    if (!message.includes('remote_addr')) return notAnswered(address, Number(seconds) * 1000);
    return method && `${address} did not finish within ${Math.round(Number(seconds))} s; allow more with --timeout-ms`;
  }
  if (code !== 'UNAVAILABLE') return undefined;
  if (/Name resolution failed/.test(message)) {
    const host = address.replace(/:\d+$/, '');
    return `no host is called "${host}" (the address was ${address}); correct --gateway or QUERN_GATEWAY`;
  }
  const known = running().find(({ grpc }) => callAddress(grpc) === address);
  if (known?.tls === true && !target.tls) {
    return `the mesh at ${address} speaks TLS: --gateway https://${address}, and --ca FILE when its CA is your own`;
  }
  if (target.tls && known?.tls === false)
    return `the mesh at ${address} does not speak TLS: --gateway ${address}, without --ca`;
  if (target.tls && /self-signed certificate|unable to (verify|get)/.test(message)) {
    return `the certificate of ${address} is of a CA that is not known here; name the CA's file with --ca or QUERN_GATEWAY_CA_FILE`;
  }
  if (/altnames/.test(message)) {
    return `the certificate of ${address} is for another name (${/altnames: (.*?)\.? *(?:Resolution|$)/.exec(message)?.[1] ?? ''})`;
  }
  if (/Protocol error/.test(message)) {
    const mesh = running().find(({ http }) => http === address);
    const instead = mesh === undefined ? 'name the gRPC address' : `the mesh's gRPC address is ${mesh.grpc}: name it`;
    return `what listens at ${address} does not speak gRPC (an HTTP port?); ${instead} with --gateway`;
  }
  if (/^Connection dropped|ECONNRESET|EPIPE|socket hang up/.test(message)) {
    return `the connection to the mesh at ${address} broke: it was stopped, or its gateway is starting again; see the terminal of quern up`;
  }
  if (/No connection|ECONNREFUSED|ENOENT|connect/i.test(message)) return nothingAnswers(address, source, running());
  return undefined;
}

/** Something accepts connections there and keeps still. */
export function notAnswered(address: string, afterMs: number): string {
  return `${address} did not answer within ${Math.round(afterMs / 1000)} s; is it a mesh's gRPC address?`;
}

function nothingAnswers(address: string, source: string, running: MeshRecord[]): string {
  const elsewhere = running
    .filter(({ grpc }) => grpc !== '' && callAddress(grpc) !== address)
    .map(({ grpc, tls }) => (tls ? `https://${callAddress(grpc)}` : callAddress(grpc)));
  if (elsewhere.length > 0) {
    const options = elsewhere.map((grpc) => `--gateway ${grpc}`).join(' or ');
    return `no mesh answers at ${address}${source}, but ${elsewhere.length === 1 ? 'one runs' : 'some run'} elsewhere: add ${options}`;
  }
  return `no mesh answers at ${address}${source}; start one with "npm start" (or "quern up"), or name another with --gateway`;
}

/** The gateway got a method of the engine, or the other way round. */
function wrongAddress(method: string, address: string, running: MeshRecord[]): string {
  const [service = '', name = ''] = method.split('/');
  const kind = /^quern\.(\w+)\./.exec(service)?.[1] ?? '';
  const short = service.slice(service.lastIndexOf('.') + 1);
  const here = `${short} is not served at ${address}`;
  const mesh =
    running.find(({ grpc }) => callAddress(grpc) === address) ?? (running.length === 1 ? running[0] : undefined);
  const parts = (mesh === undefined ? running : [mesh]).flatMap((each) =>
    each.parts.filter((part) => part.kind === kind),
  );
  const lines = parts.map((part) => {
    const comment = parts.length > 1 ? `  # ${part.name}` : '';
    return `  npx quern call --address ${partAddress(part, running)} ${short}/${name}${comment}`;
  });
  if (lines.length === 0)
    return `${here}; name the ${kind || 'right'} service's address with --address HOST:PORT or unix:///PATH`;
  return `${here}; the ${kind} of the running mesh serves it:\n${lines.join('\n')}`;
}

function partAddress(part: MeshRecord['parts'][number], running: MeshRecord[]): string {
  if (part.kind === 'gateway') return running.find(({ parts }) => parts.includes(part))?.grpc ?? '';
  return part.addresses[0] ?? '';
}
