import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type ContentRead, parseReference, readContent } from '#kit/audit/content-frame.ts';
import { parseContentPolicy } from '#kit/audit/content-policy.ts';
import { ContentStore, type ContentStoreOptions, type KeptContent } from '#kit/audit/content-store.ts';
import { openSegmentFiles, type SegmentFiles } from '#kit/audit/segment-files.ts';
import { type Subject, Vault } from '#kit/audit/vault.ts';

const DAY_MS = 24 * 3_600_000;
const vaultKey = randomBytes(32);
const ada = { tenant: 't', kind: 'user', id: 'ada' } as const;
const bob = { tenant: 't', kind: 'user', id: 'bob' } as const;
const settings = { prompts: true, responses: true, max_bytes: 4096, redact: true };
const policyOf = (changes: object = {}) =>
  parseContentPolicy(JSON.stringify({ version: 1, tenants: { t: { ...settings, ...changes } } }), 'p').get('t');

type Place = {
  dir: string;
  vault: Vault;
  files: SegmentFiles;
  store: ContentStore;
  keep(subject: Subject, text: string, kind?: 'prompt' | 'response'): Promise<KeptContent>;
  read(subject: Subject, reference: string): Promise<ContentRead>;
};

async function place(t: TestContext, options: ContentStoreOptions = {}): Promise<Place> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const vault = Vault.open(join(dir, 'vault.sqlite'), vaultKey);
  const files = await openSegmentFiles(join(dir, 'content'));
  const store = await ContentStore.open(join(dir, 'content'), options);
  t.after(async () => {
    await store.close();
    vault.close();
    await rm(dir, { recursive: true, force: true });
  });
  return {
    dir: join(dir, 'content'),
    vault,
    files,
    store,
    keep: async (subject, text, kind = 'prompt') => {
      const kept = await store.keep(subject, policyOf(), { kind, text });
      assert.ok(kept);
      return kept;
    },
    read: (subject, reference) =>
      readContent(files, vault, { tenant: subject.tenant, subject: subject.ref, reference }),
  };
}

const segments = async ({ dir }: Place): Promise<string[]> => (await readdir(dir)).sort();

test('what is kept comes back redacted, with its kind, length and counted hits', async (t) => {
  const at = await place(t);
  const subject = at.vault.subject(ada);
  const text = 'mail anna.k@posteo.net and bob@posteo.net, 密码 = "s3cr3t-Wort9"';
  const kept = await at.keep(subject, text);
  assert.deepEqual(kept.redactions, { email: 2, secret_value: 1 });
  assert.deepEqual(await at.read(subject, kept.content_ref), {
    state: 'ok',
    kind: 'prompt',
    text: 'mail [REDACTED:email] and [REDACTED:email], 密码 = "[REDACTED:secret_value]"',
    cut: false,
    bytes: Buffer.byteLength(text),
  });
  const answer = await at.keep(subject, '', 'response');
  assert.deepEqual(await at.read(subject, answer.content_ref), {
    state: 'ok',
    kind: 'response',
    text: '',
    cut: false,
    bytes: 0,
  });
});

test('the disk has neither the text nor who it is of; files are for this user only', async (t) => {
  const at = await place(t);
  const subject = at.vault.subject(ada);
  const { content_ref } = await at.keep(subject, 'def frobnicate(): pass # frobnicate');
  const [name = ''] = await segments(at);
  const bytes = await readFile(join(at.dir, name));
  for (const word of ['frobnicate', 'ada', subject.ref]) assert.ok(!bytes.includes(word), word);
  assert.ok(!content_ref.includes(subject.ref));
  assert.equal((await stat(join(at.dir, name))).mode & 0o777, 0o600);
  assert.equal((await stat(at.dir)).mode & 0o777, 0o700);
});

test('a policy says what is kept', async (t) => {
  const at = await place(t);
  const subject = at.vault.subject(ada);
  const keep = (policy: ReturnType<typeof policyOf>, kind: 'prompt' | 'response') =>
    at.store.keep(subject, policy, { kind, text: 'x' });
  assert.equal(await keep(undefined, 'prompt'), null);
  assert.equal(await keep(policyOf({ prompts: false }), 'prompt'), null);
  assert.ok(await keep(policyOf({ prompts: false }), 'response'));
  assert.equal(await keep(policyOf({ responses: false }), 'response'), null);
  assert.equal((await segments(at)).length, 1);
});

test('a long text is cut between characters, and no half of a secret stays at the cut', async (t) => {
  const at = await place(t);
  const subject = at.vault.subject(ada);
  const cutAt = async (text: string): Promise<{ text: string; cut: boolean; bytes: number }> => {
    const { content_ref } = await at.keep(subject, text);
    const content = await at.read(subject, content_ref);
    assert.equal(content.state, 'ok');
    return content as Extract<ContentRead, { state: 'ok' }>;
  };
  const wide = await cutAt('€'.repeat(2000));
  assert.equal(wide.text, '€'.repeat(1365));
  assert.deepEqual([wide.cut, wide.bytes], [true, 6000]);
  assert.equal((await cutAt('😀'.repeat(1025))).text, '😀'.repeat(1024));
  const exact = await cutAt('a'.repeat(4096));
  assert.deepEqual([exact.text.length, exact.cut], [4096, false]);
  const secret = `sk${'-proj-'}${'aB3dE5'.repeat(10)}`;
  for (let inside = 1; inside < secret.length; inside += 1) {
    const { text } = await cutAt(`${'.'.repeat(4096 - inside)}${secret} and more`);
    assert.match(text, /^\.+(?:\[[\w:]*\]?)?$/, `${inside}`);
    assert.ok(!text.includes('sk-') && Buffer.byteLength(text) <= 4096);
  }
  const many = await cutAt('a@b.io '.repeat(580)); // placeholders are longer than what they stand for
  assert.ok(Buffer.byteLength(many.text) <= 4096 && many.cut && !many.text.includes('a@b'));
});

test('another subject, another reference and another place do not open it', async (t) => {
  const at = await place(t);
  const [a, b] = [at.vault.subject(ada), at.vault.subject(bob)];
  const [one, two] = [await at.keep(a, 'one'), await at.keep(a, 'two')];
  assert.equal((await at.read(a, one.content_ref)).state, 'ok');
  assert.deepEqual(await at.read(b, one.content_ref), { state: 'damaged' });
  assert.deepEqual(await readContent(at.files, at.vault, { tenant: 'u', subject: a.ref, reference: one.content_ref }), {
    state: 'erased',
  });
  const [first, second] = [parseReference(one.content_ref), parseReference(two.content_ref)];
  assert.ok(first && second);
  const swapped = `${first.segment}-${second.offset.toString(16)}-${first.id}`;
  assert.deepEqual(await at.read(a, swapped), { state: 'damaged' });
  for (const bad of [
    '',
    '../../etc/passwd',
    `${one.content_ref}/..`,
    one.content_ref.toUpperCase().replace('-', '/'),
    `${one.content_ref}0`,
  ]) {
    assert.deepEqual(await at.read(a, bad), { state: 'damaged' }, bad);
  }
  const [name = ''] = await segments(at);
  const bytes = await readFile(join(at.dir, name));
  const middle = second.offset; // the second frame's bytes over the first's: its seal is of the other reference
  await writeFile(join(at.dir, name), Buffer.concat([bytes.subarray(middle), bytes.subarray(middle)]));
  assert.deepEqual(await at.read(a, one.content_ref), { state: 'damaged' });
});

test('every changed byte and every torn length is damage, never other text', async (t) => {
  const at = await place(t);
  const subject = at.vault.subject(ada);
  const { content_ref } = await at.keep(subject, 'def f(): return 1');
  const path = join(at.dir, (await segments(at))[0] ?? '');
  const bytes = await readFile(path);
  for (let i = 0; i < bytes.length; i += 1) {
    const changed = Buffer.from(bytes);
    changed[i] = (changed[i] as number) ^ 0x41;
    await writeFile(path, changed);
    assert.deepEqual(await at.read(subject, content_ref), { state: 'damaged' }, `byte ${i}`);
  }
  for (let length = 0; length < bytes.length; length += 1) {
    await writeFile(path, bytes);
    await truncate(path, length);
    assert.deepEqual(await at.read(subject, content_ref), { state: 'damaged' }, `length ${length}`);
  }
  await rm(path);
  assert.deepEqual(await at.read(subject, content_ref), { state: 'aged' });
});

test('erasing a person makes their content unreadable, in every process; others keep theirs', async (t) => {
  const at = await place(t);
  const [a, b] = [at.vault.subject(ada), at.vault.subject(bob)];
  const [one, two] = [await at.keep(a, 'of ada'), await at.keep(b, 'of bob')];
  const other = Vault.open(join(at.dir, '..', 'vault.sqlite'), vaultKey);
  t.after(() => other.close());
  other.subject(ada);
  at.vault.erase(ada);
  for (const vault of [at.vault, other]) {
    const read = (subject: Subject, reference: string) =>
      readContent(at.files, vault, { tenant: 't', subject: subject.ref, reference });
    assert.deepEqual(await read(a, one.content_ref), { state: 'erased' });
    assert.equal((await read(b, two.content_ref)).state, 'ok');
    const again = vault.subject(ada);
    assert.notEqual(again.ref, a.ref);
    assert.deepEqual(await read(again, one.content_ref), { state: 'damaged' }, 'the new key is another');
  }
  const late = await at.keep(a, 'held from before');
  assert.deepEqual(await at.read(a, late.content_ref), { state: 'erased' });
  at.vault.eraseTenant('t');
  assert.deepEqual(await at.read(b, two.content_ref), { state: 'erased' });
});

test('content is on the disk before its reference is given out; a crash before the record leaves nothing in the way', async (t) => {
  const at = await place(t);
  const steps: string[] = [];
  const inner = await openSegmentFiles(join(at.dir, 'traced'));
  const traced: SegmentFiles = {
    ...inner,
    open: async (name) => {
      const file = await inner.open(name);
      return {
        ...file,
        write: (bytes, from) => file.write(bytes, from).then(() => void steps.push('write')),
        datasync: () => file.datasync().then(() => void steps.push('datasync')),
      };
    },
    syncFolder: () => inner.syncFolder().then(() => void steps.push('folder')),
  };
  const store = await ContentStore.open('', { files: traced });
  const subject = at.vault.subject(ada);
  const kept = await store.keep(subject, policyOf(), { kind: 'prompt', text: 'x' }).then((value) => {
    steps.push('given');
    return value;
  });
  assert.deepEqual(steps, ['write', 'datasync', 'folder', 'given']);
  // The process dies here: no record names it. The bytes of a second write are torn.
  const [name = ''] = await inner.list();
  const whole = await inner.read(name);
  assert.ok(whole && kept);
  await writeFile(join(at.dir, 'traced', name), Buffer.concat([whole, whole.subarray(0, whole.length / 2)]));
  await store.close();
  const next = await ContentStore.open('', { files: inner });
  t.after(() => next.close());
  const later = await next.keep(subject, policyOf(), { kind: 'response', text: 'y' });
  assert.equal((await inner.list()).length, 2, 'a start begins a new segment');
  for (const reference of [kept.content_ref, later?.content_ref ?? '']) {
    assert.equal((await readContent(inner, at.vault, { tenant: 't', subject: subject.ref, reference })).state, 'ok');
  }
});

for (const step of ['open', 'write', 'datasync', 'syncFolder'] as const) {
  test(`a disk that fails at ${step} gives out no reference, then or later`, async (t) => {
    const at = await place(t);
    const inner = await openSegmentFiles(join(at.dir, step));
    const fail = (name: string) =>
      name === step ? Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' })) : null;
    const failing: SegmentFiles = {
      ...inner,
      syncFolder: () => fail('syncFolder') ?? inner.syncFolder(),
      open: async (name) => {
        await fail('open');
        const file = await inner.open(name);
        return {
          ...file,
          write: (bytes, from) => fail('write') ?? file.write(bytes, from),
          datasync: () => fail('datasync') ?? file.datasync(),
        };
      },
    };
    const store = await ContentStore.open('', { files: failing });
    t.after(() => store.close());
    const keep = () => store.keep(at.vault.subject(ada), policyOf(), { kind: 'prompt', text: 'x' });
    const refused = { code: 'UNAVAILABLE', details: { reason: 'AUDIT_CONTENT_UNAVAILABLE' } };
    await Promise.all(Array.from({ length: 3 }, () => assert.rejects(keep(), refused)));
    await assert.rejects(keep(), refused, 'and until a new start');
  });
}

test('many at once share writes, and each comes back under its own reference', async (t) => {
  const at = await place(t);
  const [a, b] = [at.vault.subject(ada), at.vault.subject(bob)];
  const kept = await Promise.all(Array.from({ length: 500 }, (_, i) => at.keep(i % 2 ? a : b, `text ${i}`)));
  assert.equal(new Set(kept.map(({ content_ref }) => content_ref)).size, 500);
  for (const [i, { content_ref }] of kept.entries()) {
    const content = await at.read(i % 2 ? a : b, content_ref);
    assert.equal(content.state === 'ok' && content.text, `text ${i}`);
  }
  assert.equal((await stat(join(at.dir, (await segments(at))[0] ?? ''))).size, at.store.bytes);
});

test('a new day has a new segment, and days past their time go', async (t) => {
  let nowMs = Date.UTC(2026, 0, 31, 23, 59);
  const at = await place(t, { retentionDays: 2, now: () => nowMs });
  const subject = at.vault.subject(ada);
  const kept: KeptContent[] = [];
  for (let day = 0; day < 5; day += 1) {
    kept.push(await at.keep(subject, `day ${day}`), await at.keep(subject, 'again'));
    nowMs += DAY_MS;
  }
  const days = (await segments(at)).map((name) => name.slice(0, 8));
  assert.deepEqual(days, ['20260202', '20260203', '20260204'], 'the last, and two before it');
  const states = await Promise.all(kept.map(async ({ content_ref }) => (await at.read(subject, content_ref)).state));
  assert.deepEqual(states, [...Array(4).fill('aged'), ...Array(6).fill('ok')]);
  nowMs += 10 * DAY_MS;
  await at.store.close();
  const next = await ContentStore.open(at.dir, { retentionDays: 2, now: () => nowMs });
  t.after(() => next.close());
  assert.deepEqual([await segments(at), next.bytes], [[], 0]);
});

test('a full store refuses and says so; what it has stays', async (t) => {
  const at = await place(t, { bytesMax: 1500 });
  const subject = at.vault.subject(ada);
  const { content_ref } = await at.keep(subject, 'a '.repeat(500));
  await assert.rejects(at.keep(subject, 'b '.repeat(500)), {
    code: 'RESOURCE_EXHAUSTED',
    details: { reason: 'AUDIT_CONTENT_FULL' },
    message: /has \d+ bytes of at most 1500/,
  });
  assert.equal((await at.read(subject, content_ref)).state, 'ok');
  await at.keep(subject, 'small');
});

test('a closed store has written what waited and takes no more', async (t) => {
  const at = await place(t);
  const subject = at.vault.subject(ada);
  const waiting = at.keep(subject, 'x');
  await at.store.close();
  assert.equal((await at.read(subject, (await waiting).content_ref)).state, 'ok');
  await assert.rejects(at.keep(subject, 'y'), { code: 'UNAVAILABLE', message: /closed/ });
});
