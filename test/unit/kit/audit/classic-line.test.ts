import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ClassicFields, classicLine, parseClassicLine } from '#kit/audit/classic-line.ts';
import { randomOf } from '../../../fixtures/redaction/random.ts';

const usual: ClassicFields = {
  timestamp: '2026-11-21T10:00:00.000Z',
  clientIp: '192.0.2.7',
  userId: 'ada',
  prompt: 'def f(x):\n\treturn x[0]',
  responseLength: 31,
  latencyMs: 812,
};

test('one bracketed line; "-" for what is not there', () => {
  const prompt = String.raw`[def f(x):\n\treturn x\[0\]]`;
  assert.equal(classicLine(usual), `[2026-11-21T10:00:00.000Z] [192.0.2.7] [ada] ${prompt} [31] [812]\n`);
  const open: ClassicFields = { ...usual, clientIp: '', userId: '', prompt: '', responseLength: null, latencyMs: null };
  assert.equal(classicLine(open), '[2026-11-21T10:00:00.000Z] [-] [-] [-] [-] [-]\n');
  assert.deepEqual(parseClassicLine(classicLine(open)), open);
  assert.match(classicLine({ ...usual, userId: '-' }), /\[\\-\]/, 'a dash is not nothing');
});

test('a prompt cannot forge a field or a line, end the line, or steer a terminal', () => {
  const forged = '] [0] [0]\n[2026-11-21T10:00:01.000Z] [10.0.0.1] [root] [x] [1] [1]';
  const hostile = [
    forged,
    '\\',
    '\\]',
    '\\\\] [',
    '\r',
    '\u2028',
    '\u2029',
    '\u0085',
    '\u001b[2J',
    '\u202e',
    '\ud800',
    '-',
    '\\n',
    '\\u{a}',
    '\0',
  ];
  for (const prompt of hostile) {
    const line = classicLine({ ...usual, prompt });
    assert.doesNotMatch(line.slice(0, -1), /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u, JSON.stringify(prompt));
    assert.deepEqual(parseClassicLine(line), { ...usual, prompt });
  }
});

test('any texts read back as they were, and no two records have one line', () => {
  const random = randomOf('classic lines');
  const pieces = [
    '[',
    ']',
    '\\',
    '\n',
    '\r',
    '\t',
    '-',
    ' ',
    '] [',
    'u{a}',
    'n',
    '\u2028',
    '\u0000',
    '\u001b',
    'é',
    '密',
    '😀',
    '\udc00',
    'a1',
  ];
  const text = (): string => Array.from({ length: random.int(0, 8) }, () => random.pick(pieces)).join('');
  const whole = (): number | null => random.pick([null, 0, random.int(1, 1e9)]);
  const seen = new Map<string, string>();
  for (let round = 0; round < 5_000; round += 1) {
    const fields = {
      timestamp: text(),
      clientIp: text(),
      userId: text(),
      prompt: text(),
      responseLength: whole(),
      latencyMs: whole(),
    };
    const line = classicLine(fields);
    assert.equal(line.split(/\r\n|[\n\r\u2028\u2029\u0085\v\f]/).length, 2, JSON.stringify(fields));
    assert.deepEqual(parseClassicLine(line), fields);
    const key = JSON.stringify(fields);
    assert.equal(seen.get(line) ?? key, key);
    seen.set(line, key);
  }
});

test('what was not written here is not read', () => {
  const good = classicLine(usual).trimEnd();
  assert.deepEqual(parseClassicLine(good), usual);
  for (const bad of [
    '',
    '[]',
    good.slice(1),
    good.slice(0, -1),
    `${good} [x]`,
    good.replace('[31]', '[x]'),
    good.replace('ada', 'a[da'),
    `${good}\n\n`,
    good.replace('ada', '\\a'),
  ]) {
    assert.equal(parseClassicLine(bad), null, bad);
  }
});
