// The tokenizer process.
import { runService } from '#kit/service-process.ts';
import { readConfig } from './config.ts';
import { startTokenizer } from './service.ts';

await runService('tokenizer', {
  config: () => readConfig(process.env),
  start: (options) => startTokenizer(options),
  ready: ({ address, models }) => ({ addresses: [address], models: models.map(({ name }) => name) }),
});
