import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseUnifiedDiff } from '../../../../services/tools/builtin/unified-diff.ts';

const parse = (text: string) => parseUnifiedDiff(text, ['.git/config']);
const HUNK = '@@ -1 +1 @@\n-a\n+b\n';

test('what else a diff can say is refused with its line', () => {
  const git = 'diff --git a/x b/x\n';
  const cases: [string, RegExp][] = [
    ['', /expected a unified diff/],
    ['hello', /line 1: expected "--- path"/],
    ['--- a/x\n', /line 2: expected "\+\+\+ path"/],
    ['--- a/x\n+++ b/x\n', /expected a hunk/],
    [`--- a/x\n+++ b/y\n${HUNK}`, /renames are not supported/],
    [`--- /dev/null\n+++ /dev/null\n${HUNK}`, /neither side names a file/],
    [`${git}old mode 100644\nnew mode 100755\n--- a/x\n+++ b/x\n${HUNK}`, /modes cannot be changed/],
    [
      `${git}new file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+/etc/passwd\n`,
      /expected a plain file, got mode 120000/,
    ],
    [`${git}new file mode 100755\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n`, /cannot be made executable/],
    [`${git}new file mode 160000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n`, /got mode 160000/],
    [`${git}rename from x\nrename to y\n`, /renames and copies/],
    [`${git}index 1..2 120000\n--- a/x\n+++ b/x\n${HUNK}`, /expected "index"/],
    [`${git}index 0..1\nGIT binary patch\nliteral 1\n`, /binary patches/],
    [`${git}new file mode 100644\nindex 0..1\n`, /files without content/],
    ['--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-a\n+b\n', /ends too early: 1 of 2 old/],
    ['--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n-b\n+c\n', /more lines than its counts/],
    ['--- a/x\n+++ b/x\n@@ -1 +1 @@\n?a\n', /begins with/],
    ['--- a/x\n+++ b/x\n@@ -1 +1 @@\n\\ No newline\n-a\n+b\n', /without a line before/],
    ['--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-a\n\\ No newline\n-b\n+c\n', /after the end of the file/],
    [`--- a/x\n+++ b/x\n${HUNK}--- a/x\n+++ b/x\n${HUNK}`, /stands twice/],
    [`--- "a/\\303\\244"\n+++ "b/\\303\\244"\n${HUNK}`, /quoted names/],
    [`--- a/../x\n+++ b/../x\n${HUNK}`, /without "\.\."/],
    [`--- /etc/passwd\n+++ /etc/passwd\n${HUNK}`, /absolute path/],
    [`--- a/.git/config\n+++ b/.git/config\n${HUNK}`, /protected/],
    [`--- /dev/null\n+++ b/x\n${HUNK}`, /a new file has no old lines/],
    [`--- a/x\n+++ /dev/null\n${HUNK}`, /a deleted file has no new lines/],
    [Array.from({ length: 101 }, (_, i) => `--- a/f${i}\n+++ b/f${i}\n${HUNK}`).join(''), /at most 100 files/],
    [`--- a/x\n+++ b/x\n${HUNK.repeat(1_001)}`, /at most 1000 hunks/],
  ];
  for (const [text, message] of cases)
    assert.throws(() => parse(text), { code: 'INVALID_ARGUMENT', message }, text.slice(0, 80));
});

test('dates after names, lost blanks and lines that look like headers are read right', () => {
  const [file] = parse(
    '--- a/x\t2026-01-01\n+++ b/x\t2026-01-02\n@@ -1,3 +1,3 @@ fn()\n a\n\n--- not a header\n+++ neither\n',
  );
  assert.deepEqual(file?.hunks, [
    {
      line: 1,
      old: ['a', '', '-- not a header'],
      new: ['a', '', '++ neither'],
      oldNoNewline: false,
      newNoNewline: false,
    },
  ]);
});
