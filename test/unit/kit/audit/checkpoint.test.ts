import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  newSigningKey,
  openCheckpoint,
  parseVerifierKey,
  signCheckpoint,
  signerOf,
  verifierKey,
} from '../../../../services/kit/audit/checkpoint.ts';
import { leafHash } from '../../../../services/kit/audit/merkle.ts';

const signer = signerOf('quern.example/audit', newSigningKey());
const checkpoint = { origin: 'quern.example/audit', size: 42, root: leafHash(Buffer.from('x')) };
const note = signCheckpoint(checkpoint, signer);

test('a signed note has the three lines, an empty line and the signature, and opens with the verifier key alone', () => {
  const lines = note.split('\n');
  assert.deepEqual(lines.slice(0, 4), ['quern.example/audit', '42', checkpoint.root.toString('base64'), '']);
  assert.match(lines[4]!, /^— quern\.example\/audit [A-Za-z0-9+/]+=*$/);
  assert.deepEqual(openCheckpoint(note, checkpoint.origin, [parseVerifierKey(verifierKey(signer))]), checkpoint);
});

test("the note specification's own key and signature verify", () => {
  // https://pkg.go.dev/golang.org/x/mod/sumdb/note, the package's example.
  const key = parseVerifierKey('PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW');
  const text =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n" +
    '\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';
  assert.throws(() => openCheckpoint(text, 'x', [key]), { message: /expected three lines: origin, size, root/ });
  assert.throws(() => openCheckpoint(text.replace('cryptography', 'Cryptography'), 'x', [key]), {
    message: 'checkpoint: the signature of PeterNeumann is wrong',
  });
});

test('what is not signed by a known key, or is another log, is refused', () => {
  const other = signerOf('quern.example/audit', newSigningKey());
  const open = (text: string, keys = [signer]) => openCheckpoint(text, checkpoint.origin, keys);
  assert.throws(() => open(note, [other]), { message: /no known key has signed it/ });
  assert.throws(() => open(note.replace('\n42\n', '\n43\n')), {
    message: /signature of quern.example\/audit is wrong/,
  });
  assert.throws(() => openCheckpoint(note, 'another', [signer]), { message: /expected origin another, got quern/ });
  const both = `${note}${signCheckpoint(checkpoint, other).split('\n')[4]}\n`;
  assert.equal(open(both).size, 42, 'an unknown signature beside a good one');
  for (const bad of ['', note.trimEnd(), note.replace('\n\n', '\n'), note.replace('— ', '- '), `${note}\n`]) {
    assert.throws(() => open(bad), { code: 'INVALID_ARGUMENT' }, JSON.stringify(bad));
  }
  for (const size of ['042', '-1', '1e3', '']) {
    assert.throws(() => open(signCheckpoint({ ...checkpoint, size: size as never }, signer)), {
      code: 'INVALID_ARGUMENT',
    });
  }
});

test('keys that are not what they say are refused', () => {
  const text = verifierKey(signer);
  const [name, id, ...rest] = text.split('+');
  const key = rest.join('+'); // base64 has '+' too
  assert.throws(() => parseVerifierKey(`${name}+00000000+${key}`), { message: /its id is [0-9a-f]{8}, not 00000000/ });
  assert.throws(() => parseVerifierKey(`other+${id}+${key}`), { message: /its id is/ });
  assert.throws(() => parseVerifierKey(`${name}+${id}+AAAA`), {
    message: /expected Ed25519 in the form NAME\+ID\+KEY, as "quern audit head"/,
  });
  assert.throws(() => signerOf('a b', newSigningKey()), { message: /expected text without blanks/ });
});
