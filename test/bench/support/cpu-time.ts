// CPU time of a process, to the nanosecond: /proc/PID/stat counts in hundredths of a second, which is a percent of a short round.
import { readdirSync, readFileSync } from 'node:fs';

/** User and system, in nanoseconds, since the start. `main`: of the first thread, which in Node runs the JavaScript. */
export type CpuTime = { all: number; main: number };

/** Of threads that live: Node's are made early and stay. Throws where the kernel has no schedstat. */
export function cpuTime(pid: number): CpuTime {
  const time: CpuTime = { all: 0, main: 0 };
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const ran = Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
    time.all += ran;
    if (thread === String(pid)) time.main = ran;
  }
  return time;
}
