// A supervisor to be killed: `parent.ts <file>`; its child writes to <file>.
import { createLog } from '#kit/log.ts';
import { createSupervisor } from '#kit/supervisor.ts';

const child = new URL('./child.ts', import.meta.url).pathname;
const supervisor = createSupervisor({ log: createLog({ service: 'parent', level: 'silent' }) });
const started = supervisor.start({
  name: 'child',
  command: process.execPath,
  args: [child, 'serve', process.argv[2]!],
  env: process.env,
});
await started.ready;
console.log(`child ${started.pid}`);
