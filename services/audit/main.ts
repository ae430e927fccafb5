// The audit process.
import { runService } from '#kit/service-process.ts';
import { readConfig } from './config.ts';
import { startAudit } from './service.ts';

await runService('audit', {
  config: () => readConfig(process.env),
  start: (options) => startAudit(options),
  ready: ({ address }) => ({ addresses: [address] }),
  /** A disk error: what the files hold is known again only after a start that reads them. */
  watch: ({ failed }, startAnew) => void failed.then(startAnew),
});
