import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { explainFailure } from '../../../../clients/lsp/rpc/explain-failure.ts';

const at = '127.0.0.1:50051';
const lost = (error: string): string => `No connection established. Last error: ${error}. Resolution note: `;

test('what grpc-js says of a connection is told in words that a user can act on', () => {
  for (const [details, expected] of [
    [lost(`Error: connect ECONNREFUSED ${at}`), /^no mesh answers at 127\.0\.0\.1:50051; start one with "npm start"/],
    [lost('Error: connect ENOENT /tmp/gone.sock'), /^no mesh answers at /],
    [lost('Protocol error (2026-11-22T06:14:08.707Z)'), /^what listens at .* does not speak gRPC \(an HTTP port\?\)/],
    [lost('Failed to connect (2026-11-22T06:14:11.762Z)'), /hangs up; .* named https:\/\/127\.0\.0\.1:50051$/],
    [
      lost('Error: 405D:error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:a.c:77:\n'),
      /does not speak TLS: name it without https:\/\/ and without caFile$/,
    ],
    [lost('Error: self-signed certificate in certificate chain'), /of a CA that is not known here; .* caFile /],
    [lost('Error: unable to verify the first certificate'), /of a CA that is not known here/],
    [
      lost("Error: Hostname/IP does not match certificate's altnames: Host: a. is not in the cert's altnames: DNS:b"),
      /is for another name \(Host: a\. is not in the cert's altnames: DNS:b\)$/,
    ],
    [lost('Error: certificate has expired'), /^the certificate of .* has expired$/],
    [lost('RangeError [ERR_SOCKET_BAD_PORT]: Port should be >= 0 and < 65536.'), /has a port that cannot be/],
    ['Name resolution failed for target dns:mesh:1', /^no host is called "127\.0\.0\.1" \(the address was 127/],
    ['Failed to parse DNS address dns:a/b', /^no host is called/],
    ['Connection dropped', /^the connection to the mesh at 127\.0\.0\.1:50051 broke$/],
    ['read ECONNRESET', /^the connection to the mesh at 127\.0\.0\.1:50051 broke$/],
  ] as const)
    assert.match(explainFailure({ code: status.UNAVAILABLE, details }, at), expected, details);
});

test('other failures: the key, a time that is up, another server; what the mesh says stays', () => {
  const said = (code: number, details: string): string => explainFailure({ code, details }, at);
  assert.match(said(status.UNAUTHENTICATED, 'an API key is needed'), /^an API key is needed; .* setting apiKey \(or/);
  assert.equal(
    said(status.DEADLINE_EXCEEDED, 'Deadline exceeded after 10.006s,name resolution: 0.001s'),
    `the mesh at ${at} did not answer within 10 s`,
  );
  assert.match(said(status.UNIMPLEMENTED, 'The server does not implement the method /a/b'), /is no gateway of a mesh/);
  for (const [code, details] of [
    [status.UNAVAILABLE, 'no engine of model "a" is ready; try again'],
    [status.FAILED_PRECONDITION, 'the model has no fill-in-the-middle'],
    [status.INVALID_ARGUMENT, 'No connection established. was the prompt'],
  ] as const)
    assert.equal(said(code, details), details);
});
