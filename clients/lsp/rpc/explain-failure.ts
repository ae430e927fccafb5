/** How a call failed, as a sentence for the editor's log. What the mesh says itself is a sentence already and stays. */
import { status } from '@grpc/grpc-js';

export type FailedCall = { code: number; details: string };

const GATEWAY = 'the setting gateway (or QUERN_GATEWAY)';
const CA_FILE = 'the setting caFile (or QUERN_GATEWAY_CA_FILE)';

type Sentence = (address: string, match: RegExpExecArray) => string;

/** grpc-js's own words for a connection that is not there, the first that fits; what the user can do about it. */
const CONNECTING: readonly [words: RegExp, sentence: Sentence][] = [
  [
    /^(?:Name resolution failed|Failed to parse DNS address)/,
    (address) => `no host is called "${address.replace(/:\d*$/, '')}" (the address was ${address}); correct ${GATEWAY}`,
  ],
  [/BAD_PORT/, (address) => `${address} has a port that cannot be; correct ${GATEWAY}`],
  [
    /wrong version number/,
    (address) => `what listens at ${address} does not speak TLS: name it without https:// and without caFile`,
  ],
  [/certificate has expired/, (address) => `the certificate of ${address} has expired`],
  [
    /altnames: (.*?)\.? *(?:Resolution|$)/,
    (address, [, names = '']) => `the certificate of ${address} is for another name (${names})`,
  ],
  [
    /self-signed certificate|unable to (?:verify|get)/,
    (address) => `the certificate of ${address} is of a CA that is not known here; name the CA's file in ${CA_FILE}`,
  ],
  [
    /Protocol error/,
    (address) =>
      `what listens at ${address} does not speak gRPC (an HTTP port?); name the mesh's gRPC address in ${GATEWAY}`,
  ],
  [
    /error: (?:Error: )?(?:Failed to connect|read ECONNRESET|socket hang up)/,
    (address) =>
      `what listens at ${address} hangs up; is it a mesh's gRPC address? One that speaks TLS is named https://${address}`,
  ],
  [
    /^No connection established/,
    (address) =>
      `no mesh answers at ${address}; start one with "npm start" (or "quern up"), or name another in ${GATEWAY}`,
  ],
  [
    /^(?:Connection dropped|Connection closed|Channel closed|read E|write E|socket hang up|Received RST_STREAM|Stream )/,
    (address) => `the connection to the mesh at ${address} broke`,
  ],
];

export function explainFailure({ code, details }: FailedCall, address: string): string {
  if (code === status.UNAUTHENTICATED) return `${details}; give it in the setting apiKey (or QUERN_API_KEY)`;
  const seconds = /^Deadline exceeded after ([\d.]+)s/.exec(details)?.[1];
  if (seconds !== undefined) return `the mesh at ${address} did not answer within ${Math.round(Number(seconds))} s`;
  if (code === status.UNIMPLEMENTED && /not implement the method/.test(details))
    return `what answers at ${address} is no gateway of a mesh that fills in; correct ${GATEWAY}`;
  if (code !== status.UNAVAILABLE && code !== status.INTERNAL) return details;
  for (const [words, sentence] of CONNECTING) {
    const match = words.exec(details);
    if (match) return sentence(address, match);
  }
  return details;
}
