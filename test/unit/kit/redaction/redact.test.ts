import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  isChinaResidentId,
  isCpf,
  isDutchBsn,
  isFrenchNir,
  isGermanTaxId,
  isIban,
  isItalianCode,
  isLuhn,
  isPesel,
  isSpanishId,
  isSsn,
} from '../../../../services/kit/redaction/checksums.ts';
import { redact } from '../../../../services/kit/redaction/redact.ts';

/** Keys are put together here so that no scanner takes this file for a leak. */
const key = (...parts: string[]): string => parts.join('');

const TAKEN: Record<string, readonly string[]> = {
  email: ['ada.lovelace+x@example.co.uk', 'a@b.io'],
  phone: [
    '+49 30 901820',
    '+1 415-555-2671',
    '(415) 555-2671',
    '415.555.2671',
    '13812345678',
    '138 1234 5678',
    '010-62751234',
    '+86 138 1234 5678',
    '01 42 68 53 00',
    '030 901820',
    '+33 1 42 68 53 00',
  ],
  card: ['4111111111111111', '4111 1111 1111 1111', '5500-0000-0000-0004', '378282246310005', '3782 822463 10005'],
  iban: ['DE89370400440532013000', 'GB82 WEST 1234 5698 7654 32', 'FR1420041010050500013M02606'],
  china_id: ['11010519491231002X', '110105194912310 02x'.replace(' ', '')],
  german_tax_id: ['47 036 892 816'],
  spanish_id: ['12345678Z', 'X-1234567-L'],
  french_nir: ['255081416802538', '2 55 08 14 168 025 38'],
  cpf: ['529.982.247-25'],
  ssn: ['536-22-8724'],
  ip: ['10.20.30.40', '192.168.1.17', '2a01:4f8::8a2e:370:7334', 'fd00::1', 'fe80::1ff:fe23:4567:890a'],
  cloud_key: [
    key('AKIA', 'IOSFODNN7QWERTYU'),
    key('ghp', '_', 'abcdefghijklmnopqrstuvwxyz0123456789'),
    key('sk', '-ant-', 'api03-abcdefghijklmnop'),
    key('xox', 'b-1234567890-abcdef'),
    key('AI', 'za', 'SyA1234567890abcdefghijklmnopqrstuv'),
  ],
  jwt: [key('eyJ', 'hbGciOiJIUzI1NiJ9.', 'eyJ', 'zdWIiOiIxMjM0In0.', 'dozjgNryP4J3jVmNHl0w5N')],
  entropy: ['q8Zr2LmX9vTb4NcY7wKd3HsF'],
};

for (const [rule, samples] of Object.entries(TAKEN)) {
  test(`${rule}: taken out, with the text around it kept`, () => {
    for (const sample of samples) {
      const { text, hits } = redact(`x = "${sample}", then`);
      assert.equal(text, `x = "[REDACTED:${rule}]", then`, sample);
      assert.deepEqual(hits, { [rule]: 1 });
    }
  });
}

test('secrets by their place: only the value goes', () => {
  const cases: [string, string][] = [
    ['password = "hunter2!"', 'password = "[REDACTED:secret_value]"'],
    ["api_key: 'Zx9-22kd-tt'", "api_key: '[REDACTED:secret_value]'"],
    ['DB_PASSWORD=s3cr3tvalue\nNEXT=1', 'DB_PASSWORD=[REDACTED:secret_value]\nNEXT=1'],
    ['IdNr: 86095742719', 'IdNr: [REDACTED:german_tax_id]'],
    ['bsn=111222333', 'bsn=[REDACTED:dutch_bsn]'],
    ['"pesel": "44051401359"', '"pesel": "[REDACTED:pesel]"'],
    ['postgres://bob:hunter2@db:5432/x', 'postgres://bob:[REDACTED:url_password]@db:5432/x'],
    ['Authorization: Bearer abcdefgh1jklm2op', 'Authorization: Bearer [REDACTED:bearer]'],
  ];
  for (const [before, after] of cases) assert.equal(redact(before).text, after);
});

test('a private key goes whole, also when its end was cut off', () => {
  const begin = key('-----BEGIN ', 'PRIVATE KEY-----');
  const end = key('-----END ', 'PRIVATE KEY-----');
  assert.equal(redact(`a\n${begin}\nMIIEvQIBADAN\nBgkq\n${end}\nb`).text, 'a\n[REDACTED:pem]\nb');
  assert.equal(redact(`${begin}\nMIIEvQIBADAN\n`).text, '[REDACTED:pem]');
});

test('what looks like it and is not stays', () => {
  const KEPT = [
    'version 1.2.3.4.5',
    'v10.0.19041.1',
    '127.0.0.1',
    '0.0.0.0',
    '300.1.1.1',
    'std::vector<int>::iterator',
    '12:34:56',
    '4111111111111112',
    '1234567890123',
    'DE89370400440532013001',
    '110105194912310021',
    '110105194913310029',
    '529.982.247-26',
    '666-45-6789',
    '123-45-6789',
    'jane@example.com',
    '2001:db8::1',
    '192.0.2.7',
    'AKIA' + 'IOSFODNN7EXAMPLE',
    '(212) 555-0199',
    'Boston, MA 02111-1307',
    'file size 17512216751 bytes',
    'FileVersion 18.5.198.85',
    'x[::2], y[1::3]',
    'Face::Bad',
    'git@github.com:kelp/infra.git',
    'this@MainActivity.finish()',
    'password: $DB_PASSWORD',
    'token = lexer.next_token()',
    'PASSWORD_RESET_TIMEOUT = 259200',
    'd670460b4b4aece5915caf5c68d12f560a9fe3e4',
    'SomeVeryLongClassNameFactoryBean',
    'some/path/to/a/file/with/many/parts.ts',
    '550e8400-e29b-41d4-a716-446655440000',
    'password = None',
    'password = "<your password>"',
    'token: string',
    'const x = 1638316800000;',
    '3.141592653589793',
    'user@localhost',
    '@decorator.name',
    '2026-11-21T10:00:00.000Z',
    '0x7fffffffffffffff',
  ];
  for (const text of KEPT) assert.equal(redact(text).text, text);
});

test('checksums refuse every single wrong digit', () => {
  const cases: [string, (text: string) => boolean][] = [
    ['4111111111111111', isLuhn],
    ['DE89370400440532013000', isIban],
    ['11010519491231002X', isChinaResidentId],
    ['86095742719', isGermanTaxId],
    ['12345678Z', isSpanishId],
    ['255081416802538', isFrenchNir],
    ['52998224725', isCpf],
    ['111222333', isDutchBsn],
    ['RSSMRA85T10A562S', isItalianCode],
  ];
  for (const [good, check] of cases) {
    assert.ok(check(good), good);
    for (let at = 0; at < good.length; at += 1) {
      for (const digit of '0123456789') {
        if (!/\d/.test(good[at]!) || digit === good[at]) continue;
        assert.ok(!check(good.slice(0, at) + digit + good.slice(at + 1)), `${good} with ${digit} at ${at}`);
      }
    }
  }
  assert.ok(isPesel('44051401359') && !isPesel('44051401358') && !isPesel('44131401350'));
  for (const [ssn, good] of [
    ['536228724', true],
    ['000456789', false],
    ['123006789', false],
    ['123450000', false],
    ['900456789', false],
  ] as const)
    assert.equal(isSsn(ssn), good, ssn);
});
