import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { QuernError } from '#kit/errors.ts';
import {
  type HeldMounts,
  type HoldOptions,
  holdMounts,
  type Neighbour,
} from '../../../../services/tools/jail/held-mounts.ts';
import { commandOf } from '../../../sandbox/jail-client.ts';

const GUARDED = ['.git/config', '.git/hooks', '.npmrc'];

type Command = Neighbour & { readonly said: string[] };

/** A command of the workspace that notes when it is to stand still and go on. */
function command({ stands = true } = {}): Command {
  const said: string[] = [];
  return {
    said,
    pause: async () => {
      said.push('pause');
      return stands;
    },
    resume: () => void said.push('resume'),
  };
}

function scratch(t: TestContext) {
  const path = mkdtempSync(join(tmpdir(), 'quern-held-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  const begin = (own: Neighbour = command(), options: Partial<HoldOptions> & { writable?: boolean } = {}) => {
    const { writable = true, signal = new AbortController().signal, ...more } = options;
    const wanted = commandOf(['/usr/bin/true'], { workspace: { path, protected: GUARDED, writable } });
    return holdMounts(wanted, own, { signal, ...more });
  };
  const make = (name: string): void => {
    mkdirSync(join(path, name, '..'), { recursive: true });
    writeFileSync(join(path, name), '');
  };
  return { path, begin, make };
}

const paths = ({ below }: HeldMounts): string[] => below.map((mount) => mount.path);
/** Longer than whatever is ready needs. */
const turns = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
};

test('what all commands have is mounted in the next at once; one that only reads holds nobody up', async (t) => {
  const { begin, make } = scratch(t);
  make('.npmrc');
  const first = command();
  const held = [await begin(first), await begin(command(), { writable: false }), await begin()];
  assert.deepEqual(held.map(paths), [['.npmrc'], [], ['.npmrc']]);
  assert.deepEqual(first.said, [], 'nobody stood still');
  for (const { release } of held) release();
});

test('what a running command could replace is mounted while that one stands still, in this launch and the next', async (t) => {
  const { begin, make } = scratch(t);
  make('.npmrc');
  const [one, two] = [command(), command()];
  const first = await begin(one);
  make('.git/config');
  const second = await begin(two);
  assert.deepEqual(paths(second), ['.git', '.git/config', '.npmrc']);
  assert.deepEqual(one.said, ['pause'], 'until the mounts are checked');
  const waits = begin();
  await turns();
  assert.deepEqual(two.said, [], 'the third waits for its turn');
  second.made();
  second.made();
  const third = await waits;
  assert.deepEqual(one.said, ['pause', 'resume', 'pause']);
  assert.deepEqual(two.said, ['pause'], 'the first may rename what the second has as a mount: then it is one no more');
  third.made();
  first.release();
  const fourth = await begin();
  assert.deepEqual(two.said, ['pause', 'resume', 'pause']);
  fourth.made();
  for (const { release } of [second, third, fourth]) release();
  const fresh = command();
  const fifth = await begin(fresh);
  const sixth = await begin();
  assert.deepEqual([paths(sixth), fresh.said], [['.git', '.git/config', '.npmrc'], []], 'control: now all have it');
  fifth.release();
  sixth.release();
});

test('the look comes when the others stand still', async (t) => {
  const { path, begin, make } = scratch(t);
  const other = command();
  const first = await begin({
    ...other,
    pause: async () => {
      renameSync(join(path, '.npmrc'), join(path, 'moved')); // its last step
      return other.pause();
    },
  });
  make('.npmrc');
  const second = await begin();
  assert.deepEqual(paths(second), []);
  second.made();
  for (const { release } of [first, second]) release();
});

test('who cannot be made to stand still is waited for, and those that idle are told of', async (t) => {
  const { begin, make } = scratch(t);
  const stubborn = command({ stands: false });
  const calm = command();
  const first = await begin(stubborn);
  const other = await begin(calm);
  make('.npmrc');
  let heldUp = 0;
  const waits = begin(command(), { onHeldUp: () => heldUp++, waitMs: 60_000 });
  const behind = begin();
  await turns();
  assert.deepEqual([stubborn.said, calm.said, heldUp], [['pause', 'resume'], ['pause', 'resume'], 1]);
  first.release();
  await turns();
  other.release();
  const second = await waits;
  assert.deepEqual(paths(second), ['.npmrc']);
  const third = await behind;
  assert.deepEqual(paths(third), ['.npmrc']);
  for (const { release } of [second, third]) release();
});

test('a launch that waited in vain is refused with the path and what to do; the next is not held up by it', async (t) => {
  const { begin, make } = scratch(t);
  const first = await begin(command({ stands: false }));
  make('.git/config');
  await assert.rejects(begin(command(), { waitMs: 5 }), (error: QuernError) => {
    assert.match(
      error.message,
      /^\.git\/config is protected .* nothing of this call ran: wait until the other one has ended/,
    );
    return error.code === 'FAILED_PRECONDITION' && error.details.reason === 'PROTECTED_PATH_BUSY';
  });
  const abort = new AbortController();
  const waits = begin(command(), { signal: abort.signal });
  const queued = begin(command(), { signal: abort.signal });
  await turns();
  abort.abort(new Error('cancelled'));
  await assert.rejects(waits, /^Error: cancelled/);
  await assert.rejects(queued, /^Error: cancelled/);
  first.release();
  const last = await begin();
  assert.deepEqual(paths(last), ['.git', '.git/config']);
  last.release();
});
