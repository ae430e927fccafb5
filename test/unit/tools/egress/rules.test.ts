import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPublicAddress } from '../../../../services/tools/egress/address-rules.ts';
import { allowRuleProblem, checkUrl, isAllowedHost } from '../../../../services/tools/egress/url-rules.ts';

test('only plain unicast addresses of the public internet are dialled', () => {
  for (const address of ['1.1.1.1', '8.8.8.8', '93.184.216.34', '2606:4700::1111', '2a00:1450:4001::1']) {
    assert(isPublicAddress(address), address);
  }
  const special = [
    ...[
      '127.0.0.1',
      '127.255.255.254',
      '0.0.0.0',
      '10.1.2.3',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '169.254.169.254',
    ],
    ...[
      '100.64.0.1',
      '100.100.100.200',
      '168.63.129.16',
      '192.0.0.170',
      '198.18.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '240.0.0.1',
    ],
    ...[
      '::1',
      '::',
      '::ffff:127.0.0.1',
      '::ffff:8.8.8.8',
      '::127.0.0.1',
      'fe80::1',
      'fe80::1%lo',
      'fc00::1',
      'fd00:ec2::254',
      'ff02::1',
    ],
    ...[
      '64:ff9b::7f00:1',
      '64:ff9b:1::1',
      '2002:7f00:1::',
      '2001::1',
      '2001:db8::1',
      '2001:0:53aa:64c::1',
      '100::1',
      '5f00::1',
    ],
    ...['', 'localhost', '127.1', '0x7f.1', '1.1.1.1.', ' 1.1.1.1'],
  ];
  for (const address of special) assert(!isPublicAddress(address), address);
});

test('names are matched on whole labels', () => {
  const allow = ['api.example.com', '*.good.com'];
  for (const host of ['api.example.com', 'a.good.com', 'a.b.good.com']) assert(isAllowedHost(host, allow), host);
  for (const host of [
    'example.com',
    'x.api.example.com',
    'good.com',
    'badgood.com',
    'good.com.evil.org',
    '.good.com',
    '',
  ]) {
    assert(!isAllowedHost(host, allow), host);
  }
  assert(!isAllowedHost('anything', []));
});

test('an allow-list says names, not everything', () => {
  for (const rule of ['example.com', '*.example.com', 'localhost', '203.0.113.9', '[2001:db8::1]'])
    assert.equal(allowRuleProblem(rule), null);
  for (const rule of [
    '*',
    '*.*',
    'ex*mple.com',
    'http://example.com',
    'example.com:80',
    '',
    'a b',
    '.com',
    '-a.com',
    '*.',
  ]) {
    assert.match(String(allowRuleProblem(rule)), /expected a host name/, rule);
  }
});

test('odd spellings of a loopback address are the address, and are not allowed', () => {
  const rules = { allow: ['*.example.com'], ports: [80, 443] };
  const spellings = [
    ...[
      'http://127.0.0.1/',
      'http://127.1/',
      'http://0x7f.1/',
      'http://2130706433/',
      'http://017700000001/',
      'http://0x7f000001/',
    ],
    ...[
      'http://127.0.0.1./',
      'http://①②⑦.0.0.1/',
      'http://[::1]/',
      'http://[::ffff:127.0.0.1]/',
      'http://[0:0:0:0:0:0:0:1]/',
    ],
    ...[
      'http://localhost/',
      'http://LOCALHOST/',
      'http://localhost./',
      'http://127.0.0.1%00.example.com/',
      'http://localhost%00.example.com/',
    ],
    ...[
      'http://a.example.com@127.0.0.1/',
      'http://a.example.com:x@127.0.0.1/',
      'http://127.0.0.1#.example.com/',
      'http://127.0.0.1?.example.com/',
    ],
    ...[
      'http://127.0.0.1\\.example.com/',
      'http:127.0.0.1',
      'http:///127.0.0.1',
      'http://a_b.example.com/',
      'http://a%2eexample.com:81/',
    ],
    ...[
      'file:///etc/passwd',
      'ftp://a.example.com/',
      'data:text/plain,x',
      'javascript:1',
      'gopher://a.example.com',
      '',
      'x',
      'http://',
    ],
    ...['http://a.example.com:22/', 'https://a.example.com:8443/', `http://a.example.com/${'x'.repeat(9_000)}`],
  ];
  for (const text of spellings) {
    assert.throws(
      () => checkUrl(text, rules),
      { code: 'PERMISSION_DENIED', details: { reason: 'EGRESS_DENIED' } },
      text.slice(0, 60),
    );
  }
  assert.equal(checkUrl('HTTP://A.Example.COM./x?y#z', rules).href, 'http://a.example.com/x?y');
  assert.throws(() => checkUrl('https://example.org', { allow: [], ports: [443] }), {
    message: /the allow-list is empty/,
  });
});
