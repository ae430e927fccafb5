import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkOrigin, originPolicy } from '../../../services/gateway/http/origin-check.ts';

function allowed(policy: ReturnType<typeof originPolicy>, host: string | undefined, origin?: string): boolean {
  try {
    checkOrigin(policy, { host, origin });
    return true;
  } catch (error) {
    assert.equal((error as { status: number }).status, 403);
    return false;
  }
}

test('a loopback listener takes loopback names only', () => {
  const policy = originPolicy(null, true);
  for (const host of ['localhost', 'localhost:8000', 'LOCALHOST:8000', '127.0.0.1:1', '[::1]:8000', '[::1]']) {
    assert.equal(allowed(policy, host), true, host);
  }
  for (const host of [
    undefined,
    '',
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.nip.io:8000',
    'localhost:80:80',
    '10.0.0.1',
  ]) {
    assert.equal(allowed(policy, host), false, String(host));
  }
});

test('pages may call only from listed hosts, whatever the listener', () => {
  for (const policy of [originPolicy(null, true), originPolicy(null, false)]) {
    assert.equal(allowed(policy, 'localhost', 'http://localhost:3000'), true);
    for (const origin of ['null', 'https://evil.example', 'http://localhost.evil.example', 'file://']) {
      assert.equal(allowed(policy, 'localhost', origin), false, origin);
    }
  }
});

test('a page that is named with scheme and port may call from there, and from nowhere else', () => {
  const policy = originPolicy(null, true, new Set(['https://code.example:8443']));
  assert.equal(allowed(policy, 'localhost', 'https://code.example:8443'), true);
  for (const origin of ['https://code.example', 'http://code.example:8443', 'https://code.example:8443.evil.example']) {
    assert.equal(allowed(policy, 'localhost', origin), false, origin);
  }
  assert.equal(allowed(policy, 'code.example:8443', 'https://code.example:8443'), false, 'its name is not our name');
});

test('a public listener takes any Host until a list is given', () => {
  assert.equal(allowed(originPolicy(null, false), 'api.example'), true);
  const listed = originPolicy(new Set(['api.example']), false);
  assert.equal(allowed(listed, 'api.example:443', 'https://api.example'), true);
  assert.equal(allowed(listed, 'other.example'), false);
});
