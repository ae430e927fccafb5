import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cutMiddle, forModel, OutputCapture, stripText } from '../../../services/tools/model-output.ts';

/** Small deterministic generator: a failing run can be run again by its seed. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const PIECES = [
  'a',
  'plain text\n',
  '\t',
  '\r\n',
  '\r',
  '\u001b[31m',
  '\u001b[',
  '\u001b]0;title\u0007',
  '\u001b]8;;http://x\u001b\\',
  '\u001b]never ended',
  '\u001bc',
  '\u001b',
  '\u009b31m',
  '\u0000',
  '\u0007',
  '\u202e',
  '\u2066',
  '\u200f',
  '\u{e0041}',
  '\u{e0101}',
  '\u200b',
  '\ufeff',
  'é',
  '漢',
  '👩‍💻',
  '\ud800',
  '\udc00',
  '<|im_start|>',
];

function randomText(random: (below: number) => number, pieces: number): string {
  return Array.from({ length: pieces }, () => PIECES[random(PIECES.length)]!).join('');
}

const FORBIDDEN = /(?![\t\n])\p{Cc}|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u{e0000}-\u{e007f}]/u;

test('escape sequences go whole, and only they', () => {
  assert.equal(stripText('a\u001b[1;31mred\u001b[0m b'), 'ared b');
  assert.equal(stripText('\u001b]0;title\u0007x\u001b]8;;http://h\u001b\\link'), 'xlink');
  assert.equal(stripText('\u001bPpayload\u001b\\x'), 'x');
  assert.equal(stripText('one\r\ntwo\rthree\tfour'), 'one\ntwo\nthree\tfour');
});

test('an escape that never ends takes no text with it', () => {
  assert.match(stripText(`\u001b]0;${'x'.repeat(10)}\nthe result`), /the result$/);
});

test('what hides or turns text goes; joiners and other scripts stay', () => {
  assert.equal(stripText('a\u202eb\u2066c\u200fd\u061ce'), 'abcde');
  assert.equal(
    stripText(`hi${[...'ignore'].map((c) => String.fromCodePoint(0xe0000 + c.charCodeAt(0))).join('')}!`),
    'hi!',
  );
  assert.equal(stripText('zero\u200bwidth\ufeff\u2060'), 'zerowidth');
  assert.equal(stripText('👩‍💻 नि ‌ 漢字 é'), '👩‍💻 नि ‌ 漢字 é');
});

test('for any text: nothing forbidden is left, twice is as once, the length is kept, UTF-8 is valid', () => {
  for (let seed = 1; seed <= 400; seed++) {
    const random = generator(seed);
    const text = randomText(random, random(200));
    const stripped = stripText(text);
    assert.equal(FORBIDDEN.test(stripped), false, `seed ${seed}`);
    assert.equal(stripText(stripped), stripped, `seed ${seed}`);
    const max = 64 + random(600);
    const { text: cut, cut: wasCut } = forModel(text, max);
    const bytes = Buffer.from(cut, 'utf8');
    assert.ok(bytes.length <= max, `seed ${seed}: ${bytes.length} of ${max}`);
    assert.equal(bytes.toString('utf8'), cut, `seed ${seed}`);
    assert.equal(cut.isWellFormed(), true);
    assert.equal(wasCut, Buffer.byteLength(stripped) > max, `seed ${seed}`);
    if (!wasCut) assert.equal(cut, stripped);
  }
});

test('a cut keeps beginning and end and says how much is missing', () => {
  const { text, cut } = cutMiddle(`BEGIN${'x'.repeat(10_000)}END`, 1_000);
  assert.equal(cut, true);
  assert.match(text, /^BEGINx+\n\[\.\.\. (\d+) bytes left out \.\.\.\]\nx+END$/);
  const leftOut = Number(/(\d+) bytes left out/.exec(text)![1]);
  const shown = Buffer.byteLength(text) - `\n[... ${leftOut} bytes left out ...]\n`.length;
  assert.equal(shown + leftOut, 10_008);
});

test('long escape floods take linear time', () => {
  const floods = [
    '\u001b]'.repeat(200_000),
    `\u001b[${'0'.repeat(400_000)}`,
    '\u001b'.repeat(400_000),
    '\u001b]x'.repeat(130_000),
  ];
  const startedAt = performance.now();
  for (const flood of floods) stripText(flood);
  assert.ok(performance.now() - startedAt < 20_000);
});

test('a capture keeps the ends of streams of any length, cut anywhere', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = generator(seed);
    const max = 512 + random(2_000);
    const capture = new OutputCapture(max);
    const given = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    for (let i = random(60); i > 0; i--) {
      const stream = random(3) === 0 ? 'stderr' : 'stdout';
      const data = Buffer.from('é漢x'.repeat(1 + random(60))).subarray(random(3));
      given[stream].push(data);
      capture.add(stream, data);
    }
    const { stdout, stderr, cut } = capture.captured();
    const whole = { stdout: Buffer.concat(given.stdout), stderr: Buffer.concat(given.stderr) };
    assert.equal(capture.stdoutBytes, whole.stdout.length);
    assert.equal(capture.stderrBytes, whole.stderr.length);
    if (whole.stdout.length + whole.stderr.length <= max) {
      assert.equal(cut, false, `seed ${seed}`);
      assert.equal(stdout, whole.stdout.toString('utf8'));
      assert.equal(stderr, whole.stderr.toString('utf8'));
    } else {
      assert.equal(cut, true, `seed ${seed}`);
    }
    for (const [text, bytes] of [
      [stdout, whole.stdout],
      [stderr, whole.stderr],
    ] as const) {
      const [head = '', tail] = text.split(/\n\[\.\.\. \d+ bytes left out \.\.\.\]\n/);
      const plain = bytes.toString('utf8');
      assert.ok(plain.startsWith(head.replace(/\ufffd+$/, '')), `seed ${seed}`);
      if (tail !== undefined) assert.ok(plain.endsWith(tail.replace(/^\ufffd+/, '')), `seed ${seed}`);
    }
  }
});
