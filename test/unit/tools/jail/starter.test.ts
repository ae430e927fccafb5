/** What the starter is given: the command as its memory, and the limits inside. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitsInside, starter, starterMemory } from '../../../../services/tools/jail/starter.ts';
import { MEMORY_ADDRESS } from '../../../../services/tools/jail/static-program.ts';
import { commandOf } from '../../../sandbox/jail-client.ts';

const MIB = 1024 ** 2;
const command = commandOf(['/usr/bin/x', '', 'ü y'], {
  limits: { cpuMs: 1_500, pids: 10, memoryBytes: 4 * MIB, openFiles: 20, fileBytes: 5 * MIB },
});

test('limits inside; without a cgroup each process is limited alone', () => {
  const enclosed = limitsInside(command, { withCgroup: true });
  assert.deepEqual(enclosed, [
    [6, 11, 11],
    [7, 20, 20],
    [4, 0, 0],
    [1, 5 * MIB, 5 * MIB],
    [8, 0, 0],
    [0, 2, 3],
  ]);
  const alone = limitsInside(command, { withCgroup: false });
  assert.deepEqual(alone[0], [6, 10, 10]);
  assert.deepEqual(alone.slice(1), [...enclosed.slice(1), [2, 4 * MIB, 4 * MIB]]);
});

test('the memory of the starter: every address leads to what it says', () => {
  const memory = Buffer.from(starterMemory(command, { withCgroup: true }));
  const word = (address: number): number => Number(memory.readBigUInt64LE(address - MEMORY_ADDRESS));
  const text = (address: number): string => {
    const at = address - MEMORY_ADDRESS;
    return memory.subarray(at, memory.indexOf(0, at)).toString();
  };
  const head = Array.from({ length: 6 }, (_, index) => word(MEMORY_ADDRESS + 8 * index));
  const [length, path, argv, complaint, complaintBytes, limits] = head as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  assert.equal(length, memory.length);
  assert.equal(text(path), '/usr/bin/x');
  assert.deepEqual(
    [0, 1, 2].map((index) => text(word(argv + 8 * index))),
    [...command.argv],
  );
  assert.equal(word(argv + 24), 0);
  const at = complaint - MEMORY_ADDRESS;
  assert.equal(memory.subarray(at, at + complaintBytes).toString(), '/usr/bin/x cannot be started\n');
  const triples = limitsInside(command, { withCgroup: true }).flat();
  assert.equal(limits, triples.length / 3);
  assert.deepEqual(
    triples.map((_, index) => word(MEMORY_ADDRESS + 48 + 8 * index)),
    triples,
  );
});

test('the program is a static executable that asks for no interpreter', () => {
  const bytes = Buffer.from(starter());
  assert.equal(bytes.subarray(0, 4).toString('latin1'), '\x7fELF');
  const types = Array.from({ length: bytes.readUInt16LE(56) }, (_, index) => bytes.readUInt32LE(64 + 56 * index));
  assert.deepEqual(types, [1, 1], 'PT_LOAD only');
});
