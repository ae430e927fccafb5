// Suites that start services spend their time waiting: beside them, suites that compute take the processors that are free. They
// take only those, so that nothing that the others wait for comes later.
import { availableParallelism } from 'node:os';
import { hasQuota } from './build-ahead.mjs';

/**
 * Between what serves a test that waits (0) and what is compiled ahead (19). At 5 it gets a quarter of a processor that is wanted by
 * both.
 */
const COMPUTING_NICENESS = 5;

const thisMachine = () => ({ processors: availableParallelism(), quota: hasQuota() });

const canShare = ({ processors, quota }) => processors > 1 && !quota;

/** How many processes of one waiting suite run at once. */
export function waitersOf(machine = thisMachine()) {
  return canShare(machine) ? 2 : 1;
}

/** Does `act` with every item, in order, with `width` at once. */
export async function atOnce(items, width, act) {
  const left = [...items];
  const worker = async () => {
    while (left.length > 0) await act(left.shift());
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** { suites, niceness } of each lane: one where there is one processor, or a share counted in time, which nobody can take politely. */
export function lanesOf(suites, machine = thisMachine()) {
  const waiting = suites.filter(({ waits }) => waits);
  const computing = suites.filter(({ waits }) => !waits);
  const isShared = waiting.length > 0 && computing.length > 0 && canShare(machine);
  if (!isShared) return [{ suites, niceness: 0 }];
  return [
    { suites: waiting, niceness: 0 },
    { suites: computing, niceness: COMPUTING_NICENESS },
  ];
}
