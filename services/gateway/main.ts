// The gateway process.
import { QuernError } from '#kit/errors.ts';
import { runService } from '#kit/service-process.ts';
import { readConfig } from './config.ts';
import { startGateway } from './service.ts';

await runService('gateway', {
  config: () => readConfig(process.env),
  start: (options) => startGateway(options),
  ready: ({ httpAddress, grpcAddress, isTls, context }) => ({
    addresses: [`${isTls ? 'https' : 'http'}://${httpAddress}`, grpcAddress],
    models: context.models.all().map(({ name }) => name),
    audit: context.audit.report,
  }),
  /** What the disk has after an error of it shows only a start that reads it again. */
  watch: ({ context: { audit } }, startAnew) => {
    audit.onChange(() => {
      if (!audit.report?.required || audit.report.outbox !== 'failed') return;
      startAnew(new QuernError('UNAVAILABLE', 'the audit outbox failed', { reason: 'AUDIT_OUTBOX_FAILED' }));
    });
  },
});
