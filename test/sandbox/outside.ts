/** The same system calls outside a sandbox, as the same account: the controls of what a sandbox refuses. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Answer, SyscallOrders } from '../../services/tools/jail/syscall-runner.ts';
import { syscallRunner } from '../../services/tools/jail/syscall-runner.ts';
import type { Cleanup, JailClient } from './jail-client.ts';

/** Where the program is inside. */
export const PROBE = '/opt/probe';

export type Caller = {
  inside(orders: SyscallOrders, network?: 'none' | 'proxy'): Promise<{ answers: Answer[]; exitCode: number | null }>;
  outside(orders: SyscallOrders): { answers: Answer[]; exitCode: number | null; signal: NodeJS.Signals | null };
};

/** The program of syscall-runner.ts, to be run inside and outside by one account. */
export function makeCaller(t: Cleanup, jail: JailClient): Caller {
  const folder = mkdtempSync(join(tmpdir(), 'quern-probe-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  const probe = join(folder, 'probe');
  writeFileSync(probe, syscallRunner());
  chmodSync(probe, 0o755);
  return {
    async inside(orders, network = 'none') {
      const session = await jail.run(
        [PROBE],
        {
          stdin: orders.encode(),
          binds: [{ from: probe, to: PROBE }],
          network,
        },
        { keepBytes: 16 * 1024 ** 2, raw: true },
      );
      return { answers: orders.decode(session.bytes!), exitCode: session.end.exitCode };
    },
    outside(orders) {
      const account = process.getuid?.() === 0 ? { uid: jail.uid, gid: jail.uid } : {};
      const { stdout, status, signal } = spawnSync(probe, [], {
        input: orders.encode(),
        env: {},
        cwd: '/',
        timeout: 10_000,
        ...account,
      });
      return { answers: orders.decode(stdout), exitCode: status, signal };
    },
  };
}
