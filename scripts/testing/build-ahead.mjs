// Compiles what later suites need while earlier ones run: those wait for processes most of the time. At the lowest priority, so
// that it takes only what they leave. A suite that comes to its build waits for this one (scripts/setup/lock.mjs) and, when it
// failed, makes it again and shows why.
import { readFileSync } from 'node:fs';
import { node24 } from '../setup/paths.mjs';
import { run } from '../setup/steps.mjs';

/** Suites whose whole build is that of a preset of the same name, in the order of their suites. */
const presets = ['asan', 'tsan', 'cuda'];

/** A share of the processors counted in time, as containers have it: what is compiled is taken from the tests, however low it ranks. */
export function hasQuota() {
  const read = (path) => {
    try {
      return readFileSync(path, 'utf8').trim();
    } catch {
      return '';
    }
  };
  const own = /^0::(.*)$/m.exec(read('/proc/self/cgroup'))?.[1] ?? '/';
  const limits = ['/sys/fs/cgroup/cpu.max', `/sys/fs/cgroup${own}/cpu.max`].map(read);
  return limits.some((limit) => /^\d/.test(limit)) || /^\d/.test(read('/sys/fs/cgroup/cpu/cpu.cfs_quota_us'));
}

/** Builds for those of these suites that compile much, one after the other. */
export async function buildAhead(suiteNames) {
  if (hasQuota()) return;
  for (const preset of presets.filter((name) => suiteNames.includes(name))) {
    await run(node24, ['scripts/build-native.mjs', '--preset', preset], { niceness: 19 });
  }
}
