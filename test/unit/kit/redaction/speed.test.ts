// No text makes the redactor slow: whoever sends prompts may choose them to be.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { redact } from '#kit/redaction/redact.ts';
import { randomOf } from '../../../fixtures/redaction/random.ts';

const LENGTH = 100_000;
/** Usual is 30 ms, the worst of these 600 ms; a pattern that is quadratic takes minutes. */
const LIMIT_MS = 3_000;

/** Of this process, not of the clock: the machine may be busy. */
function milliseconds(text: string): number {
  const before = process.cpuUsage();
  redact(text);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** What patterns begin with, go on with and end with. */
const PIECES = [
  'a',
  'A',
  '0',
  '1',
  ' ',
  '  ',
  '-',
  '_',
  '.',
  ':',
  '::',
  '=',
  '@',
  '/',
  '+',
  '"',
  "'",
  '\\',
  '\n',
  '(',
  ')',
  '<',
  '>',
  '{',
  '密码',
  'é',
  'a@',
  'a.',
  '@a.',
  'eyJ',
  'eyJ-',
  'eyJaaaaaaaa.',
  '-----BEGIN PRIVATE KEY-----',
  '-----BEGIN CERTIFICATE-----',
  '-----',
  '-----END ',
  'password',
  'password=',
  'password="',
  'token: ',
  'secret is ',
  'pw=',
  'Pass',
  'api_key',
  'Bearer ',
  'Basic ',
  'http://a:',
  'a://',
  '+1 ',
  '+1',
  '+1(',
  '00',
  '(212) ',
  '0171 ',
  '1.',
  '1-',
  '1 ',
  '111 ',
  'AA00 ',
  'aA1',
  'sk-',
  'sk-ant-',
  'ghp_',
  'xoxb-',
  'SG.',
  'AKIA',
  'AccountKey=',
  '?sig=',
  '8Q~',
  'mysql ',
  'mysql -',
  ' -p',
  'redis-cli -h a ',
  ' -u a:',
  'identified by "',
  'data:a;base64,',
  '1:',
  'f:',
  'https://hooks.slack.com/services/',
  'https://discord.com/api/webhooks/1',
  'bot1',
  '11111111:AA',
  'PASSWORD_',
  'value="',
  '</',
  '=>',
  ':=',
];

test('one piece over and over', () => {
  const slow = PIECES.map((piece) => ({
    piece,
    ms: milliseconds(piece.repeat(Math.ceil(LENGTH / piece.length))),
  })).filter(({ ms }) => ms > LIMIT_MS);
  assert.deepEqual(slow, []);
});

test('random pieces over and over', () => {
  const random = randomOf('slow texts');
  for (let round = 0; round < 60; round += 1) {
    const unit = Array.from({ length: random.int(2, 5) }, () =>
      random.pick(PIECES).repeat(random.pick([1, 1, 1, 2, 30])),
    ).join('');
    const ms = milliseconds(unit.repeat(Math.ceil(LENGTH / unit.length)));
    assert.ok(ms < LIMIT_MS, `${JSON.stringify(unit)}: ${Math.round(ms)} ms`);
  }
});

test('a start that never ends', () => {
  for (const start of PIECES) {
    for (const filler of ['a', '1', 'aB3', ' ', '-', '=', '\n', 'a.', '1.']) {
      const ms = milliseconds(start + filler.repeat(Math.ceil(LENGTH / 4 / filler.length)));
      assert.ok(ms < LIMIT_MS, `${JSON.stringify(start)} ${JSON.stringify(filler)}: ${Math.round(ms)} ms`);
    }
  }
});
