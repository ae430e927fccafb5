// The process of the egress proxy; egress-proxy.ts starts and ends it.
import { lookup } from 'node:dns/promises';
import type { EgressSettings } from './guarded-fetch.ts';
import { createProxyServer } from './proxy-server.ts';

export type ProxyOrder = { readonly settings: EgressSettings; readonly path: string };

process.once('message', ({ settings, path }: ProxyOrder) => {
  const server = createProxyServer(settings, async (host) =>
    (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address),
  );
  server.once('error', (error) =>
    process.send?.({ ok: false, message: (error as NodeJS.ErrnoException).code ?? error.message }),
  );
  server.listen(path, () => process.send?.({ ok: true }));
});
process.on('disconnect', () => process.exit(0));
