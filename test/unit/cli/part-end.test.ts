import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endOfPart } from '../../../services/cli/up/part-end.ts';

test('of a part that was killed no log is promised; of others its own', () => {
  assert.match(
    endOfPart(null, 'SIGKILL'),
    /^killed \(SIGKILL\), .* most likely .* out of memory; journalctl -k or dmesg /,
  );
  assert.equal(endOfPart(null, 'SIGSEGV'), 'ended by SIGSEGV; its log says why');
  assert.equal(endOfPart(7, null), 'ended by exit code 7; its log says why');
});
