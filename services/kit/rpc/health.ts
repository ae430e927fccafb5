// grpc.health.v1: one name per capability and "" for the whole server. Everything starts as NOT_SERVING.
import {
  type HealthCheckResponse,
  HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '#gen/grpc/health/v1/health.ts';
import { QuernError, throwIfAborted } from '#kit/errors.ts';
import { defineService, type ServiceRegistration } from './service.ts';

export type Health = {
  readonly registration: ServiceRegistration;
  set(name: string, serving: boolean): void;
  /** Everything NOT_SERVING from now on; later set() calls are remembered but not shown. */
  shutDown(): void;
};

export function createHealth(names: readonly string[]): Health {
  const serving = new Map<string, boolean>(['', ...names].map((name) => [name, false]));
  const watchers = new Set<() => void>();
  let down = false;

  function statusOf(name: string): HealthCheckResponse {
    const known = serving.get(name);
    if (known === undefined) return { status: ServingStatus.SERVICE_UNKNOWN };
    return { status: known && !down ? ServingStatus.SERVING : ServingStatus.NOT_SERVING };
  }

  function notify(): void {
    for (const wake of watchers) wake();
  }

  const registration = defineService(
    HealthService,
    {
      async check({ service }) {
        if (serving.has(service)) return statusOf(service);
        const known = [...serving.keys()].map((name) => `"${name}"`).join(', ');
        throw new QuernError('NOT_FOUND', `health: no capability "${service}"; known: ${known}`);
      },
      async watch({ service }, call, out) {
        let shown: number | null = null;
        let wake: () => void = () => {};
        const listener = (): void => wake();
        watchers.add(listener);
        call.signal.addEventListener('abort', listener);
        try {
          while (true) {
            const response = statusOf(service);
            if (response.status !== shown) {
              shown = response.status;
              if (!out.write(response)) await out.drained();
              continue;
            }
            throwIfAborted(call.signal); // after the last status was told
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        } finally {
          watchers.delete(listener);
          call.signal.removeEventListener('abort', listener);
        }
      },
    },
    { open: true },
  );

  return {
    registration,
    set(name, value) {
      serving.set(name, value);
      notify();
    },
    shutDown() {
      down = true;
      notify();
    },
  };
}
