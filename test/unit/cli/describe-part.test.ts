import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describePart } from '../../../services/cli/up/describe-part.ts';

const tools = { addresses: [], tools: 11, missing: [], packs: '/srv/ada/.local/state/quern/tools/packs' };

test('the row of the tools names the folder of the packs, below the home of who started it as a shell writes it', () => {
  const told = (over: object, home = '/srv/ada') => describePart({ ...tools, tier: 'A', ...over }, home);
  assert.equal(told({}), '11 tools, sandbox tier A, packs in ~/.local/state/quern/tools/packs');
  assert.equal(told({}, '/srv/a'), `11 tools, sandbox tier A, packs in ${tools.packs}`);
  assert.equal(told({ packs: '/srv/packs' }, '/'), '11 tools, sandbox tier A, packs in /srv/packs');
  assert.equal(
    told({ tier: null, packs: '/srv/packs', missing: ['no bwrap; install it', 'no seccomp'] }),
    '11 tools, packs in /srv/packs, but no sandbox: no bwrap; install it. no seccomp',
  );
});

test('an engine has its model and kernels, the others the names of the models', () => {
  const engine = { model: 'm', backend: 'cpu', isa: 'avx2', dtype: 'bf16', contextLength: 2048 };
  assert.equal(describePart({ addresses: [], ...engine }), 'm on cpu avx2, bf16, context 2048');
  assert.equal(describePart({ addresses: [], models: ['a', 'b'] }), 'a, b');
  assert.equal(describePart({ addresses: [] }), '');
});
