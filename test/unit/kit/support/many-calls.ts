// Makes and ends calls as a server does, nothing but garbage: run with --trace-gc-nvp to see what outlives its collections.
import { EventEmitter } from 'node:events';
import { Metadata } from '@grpc/grpc-js';
import { LiveMap } from '#kit/live-map.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics, RPC_BUCKETS_SECONDS } from '#kit/metrics.ts';
import { localPrincipal } from '#kit/principal.ts';
import { ActiveCall, type CallScope } from '#kit/rpc/active-call.ts';
import { createOut } from '#kit/rpc/out.ts';
import { createResetMeter } from '#kit/rpc/reset-meter.ts';
import type { Writable } from '#kit/rpc/surface.ts';
import { noSpans } from '#kit/trace.ts';

const CALLS = 20_000;
/** Makes what a call keeps alive much larger than what is made beside it. */
const REQUEST_NUMBERS = 1_000;

class FakeSurface extends EventEmitter {
  readonly metadata = new Metadata();
  readonly request = new Array<number>(REQUEST_NUMBERS).fill(0);
  readonly writableNeedDrain = false;
  readonly getPeer = (): string => '127.0.0.1:1';
  readonly getDeadline = (): number => Number.POSITIVE_INFINITY;
  sendMetadata(): void {}
  write(_message: Buffer, callback: () => void): boolean {
    callback();
    return true;
  }
}

const metrics = createMetrics('gateway');
const scope: CallScope = {
  log: createLog({ service: 'gateway', level: 'silent' }),
  meter: createResetMeter(),
  spans: noSpans,
  authorizeSpan: null,
  durations: metrics.histogram({
    name: 'quern_seconds',
    help: 'x',
    labels: ['method', 'code'],
    buckets: RPC_BUCKETS_SECONDS,
  }),
  inFlight: metrics.gauge({ name: 'quern_running', help: 'x', labels: ['method'] }),
  running: new LiveMap(),
  refusing: false,
  authenticate: () => localPrincipal,
  onEnd() {},
};
const service = { name: 's', methods: [], open: false, background: false };

for (let i = 0; i < CALLS; i += 1) {
  const surface = new FakeSurface();
  const call = new ActiveCall(scope, surface as unknown as Writable, 's/m', service);
  const out = createOut<Buffer>(surface, (message) => message, call.context.signal);
  await call.admit();
  out.write(Buffer.from(call.context.principal.tenant));
  call.settle(null);
  out.close(new Error('the call has ended'));
}
