// Text of others at a terminal, in a file and in a table.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExplainResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { formatNarrowTable, formatTable } from '../../../services/cli/table.ts';
import { oneLine, plainSight, textFor, visible } from '../../../services/cli/terminal-text.ts';
import { formatWaterfall } from '../../../services/cli/waterfall.ts';

const EVERY = Array.from({ length: 0x100 }, (_, code) => String.fromCharCode(code)).join('');

test('no control character but line ends and tabs reaches a terminal, and each is told from the others', () => {
  const shown = visible(EVERY);
  assert.deepEqual(shown.match(/\p{Cc}/gu), ['\t', '\n']);
  assert.equal(visible('\u0000\u0007\u001b]0;x\u0007\u007f\u0085\u009b'), '␀␇␛]0;x␇␡<U+0085><U+009B>');
  assert.equal(visible('a\r\nb\tc\nd é 日本 \u{1f600}'), 'a\r\nb\tc\nd é 日本 \u{1f600}');
  assert.equal(visible('done\rnot'), 'done␍not', 'what would overwrite the line is shown');
});

test('a pipe gets what came', () => {
  assert.equal(textFor({}, EVERY), EVERY);
  assert.equal(textFor({ isTTY: false }, EVERY), EVERY);
  assert.equal(textFor({ isTTY: true }, EVERY), visible(EVERY));
});

test('what is approved hides nothing', () => {
  assert.equal(plainSight('a\u202eb\u200b\u2028\u001b'), 'a\\u{202e}b\\u{200b}\\u{2028}␛');
});

test('a cell of a table stays in its line', () => {
  assert.equal(oneLine('a\n\tb'), 'a␊␉b');
  const rows = [['x\ny', '\u001b[2J z']];
  for (const table of [formatTable(['one', 'two'], rows), formatNarrowTable(['one', 'two'], rows, 80)]) {
    assert.equal(table.split('\n').length, 4);
    assert.equal(table.split('\n')[2], 'x␊y  ␛[2J z');
  }
});

test('a waterfall with the message of an error', () => {
  const answer = {
    stages: [],
    message: 'bad \u001b[31mword',
    code: 'INTERNAL',
    reason: 'X',
    method: 'chat',
    requestId: 'r',
  };
  const whole = { ...answer, model: 'm', outcome: 'error', arrived: 'now', user: 'u', traceId: 't', durationUs: 1n };
  const text = formatWaterfall({ ...whole, steps: 0, resumes: 0, longestGapUs: 0n } as unknown as ExplainResponse);
  assert.match(textFor({ isTTY: true }, text), /failed: INTERNAL X: bad ␛\[31mword\n$/);
});
