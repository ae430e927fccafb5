import assert from 'node:assert/strict';
import { test } from 'node:test';
import { offsetOf, parsePlace } from '../../../services/cli/commands/infill.ts';

test('FILE:LINE:COL is split from the right, so FILE may hold colons', () => {
  assert.deepEqual(parsePlace(['a.py:3:7']), { file: 'a.py', line: 3, column: 7 });
  assert.deepEqual(parsePlace(['a.py:3']), { file: 'a.py', line: 3, column: undefined });
  assert.deepEqual(parsePlace(['c:/x:y.py:3:7']), { file: 'c:/x:y.py', line: 3, column: 7 });
});

test('anything else is refused with the form that is expected', () => {
  for (const bad of [[], ['a.py'], ['a.py:x'], ['a.py:1:2', 'b.py:1']]) {
    assert.throws(() => parsePlace(bad), { message: /^expected a place FILE:LINE\[:COL\], counted from 1, got / });
  }
});

test('offsets count from 1 and stay inside the line, CRLF files too', () => {
  const unix = 'ab\ncd\n';
  assert.equal(offsetOf(unix, { file: 'f', line: 1, column: 1 }), 0);
  assert.equal(offsetOf(unix, { file: 'f', line: 2, column: 3 }), 5);
  assert.equal(offsetOf(unix, { file: 'f', line: 2, column: undefined }), 5);
  assert.equal(offsetOf('ab\r\ncd\r\n', { file: 'f', line: 1, column: undefined }), 2);
  assert.throws(() => offsetOf(unix, { file: 'f', line: 4, column: 1 }), /expected a line from 1 to 3, got 4/);
  assert.throws(() => offsetOf(unix, { file: 'f', line: 1, column: 4 }), /expected a column from 1 to 3, got 4/);
  assert.throws(() => offsetOf(unix, { file: 'f', line: 0, column: 1 }), /^.*f: expected a line from 1 to 3, got 0$/);
  assert.throws(() => offsetOf(unix, { file: 'f', line: 1, column: 0 }), /f:1: expected a column from 1 to 3, got 0/);
  assert.throws(
    () => offsetOf(unix, { file: 'f', line: 3, column: 2 }),
    /f:3: expected column 1 in an empty line, got 2/,
  );
  assert.throws(() => offsetOf('ab', { file: 'f', line: 2, column: 1 }), /f: expected line 1, the only one, got 2/);
});
