// A supervised process for the tests: `child.ts <mode> [<file>]`.
import { appendFileSync } from 'node:fs';
import { createLifecycle } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { reportFatal, reportProgress, reportReady } from '#kit/parent.ts';

const [mode, file] = process.argv.slice(2);
const note = (text: string): void => {
  if (file) appendFileSync(file, `${process.pid} ${text}\n`);
};
note('up');

if (mode === 'die') {
  reportFatal('no model in /nowhere');
  setTimeout(() => process.exit(3), 20);
} else if (mode === 'stubborn') {
  for (const name of ['SIGTERM', 'disconnect']) process.on(name, () => note(name));
  setInterval(() => {}, 1_000);
  reportReady({ addresses: [] });
} else {
  const keepAlive = setInterval(() => {}, 1_000);
  const lifecycle = createLifecycle({
    log: createLog({ service: 'child', level: 'silent' }),
    steps: [
      {
        name: 'work',
        start() {
          reportProgress({ phase: 'loading', done: 1, total: 2 });
        },
        ready() {
          console.log('I am ready');
          reportReady({ addresses: ['unix:///child'], model: 'mini' });
        },
        drain: () => note('drain'),
        stop() {
          clearInterval(keepAlive);
          note('stop');
        },
      },
    ],
  });
  await lifecycle.start();
}
