// What is recorded beside requests: who was turned away, which keys came and went, which models engines serve, refuse and lose.
import {
  type AuditActor,
  type AuditEvent,
  type AuditOutcome,
  type AuditValue,
  SYSTEM_TENANT,
} from '#kit/audit/record.ts';
import type { Vault } from '#kit/audit/vault.ts';
import type { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { Principal } from '#kit/principal.ts';
import { AUDIT_KEY_CHANGES_MAX, AUTH_FAILURES_WINDOW_MS } from '../limits.ts';
import { type AuthFailure, type AuthFailures, AuthFailureWindow } from './auth-failures.ts';
import type { KeyChange } from './key-changes.ts';
import type { OwedRecords } from './owed-records.ts';

/** An engine's model by its served name, and what identifies its weights. */
export type LoadedModel = { model: string; modelHash: string; contextLength: number };

export type ServiceEvents = {
  authFailed(failure: AuthFailure): void;
  keysChanged(changes: readonly KeyChange[]): void;
  /** An engine came up with its model, or another instance of it did. */
  modelLoaded(loaded: LoadedModel): void;
  /** An engine refused its model. */
  modelRejected(rejected: { model: string; error: QuernError }): void;
  engineCrashed(engine: { model: string; error: QuernError; requests: number }): void;
  /** An agent run begins, or has ended. Its turns and calls have records of their own, under the same request id. */
  agentStarted(run: RecordedRun): void;
  agentFinished(run: RecordedRun & AgentEnding): void;
};

/** An agent run, its nested runs included. */
export type RecordedRun = { runId: string; principal: Principal; model: string; traceId: string };

export type AgentEnding = {
  outcome: AuditOutcome;
  /** ANSWERED, LIMIT, ... */
  reason: string;
  /** Of a failure. */
  code: string | null;
  usage: { readonly [name: string]: number };
};

export const noServiceEvents: ServiceEvents = {
  authFailed: () => {},
  keysChanged: () => {},
  modelLoaded: () => {},
  modelRejected: () => {},
  engineCrashed: () => {},
  agentStarted: () => {},
  agentFinished: () => {},
};

/** A socket of both families shows IPv4 as "::ffff:192.0.2.1". */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/, '');
}

/** A record about the service that the outbox belongs to. */
export function serviceEvent(
  producer: string,
  action: AuditEvent['action'],
  over: Partial<AuditEvent> = {},
): AuditEvent {
  const actor: AuditActor = { kind: 'service', ref: producer };
  return { tenant: SYSTEM_TENANT, actor, outcome: 'ok', target: 'gateway', ...over, action };
}

export type RecordedEventsOptions = {
  /** Name of the outbox's producer. */
  producer: string;
  owed: OwedRecords;
  vault: Vault;
  log: Log;
  authWindowMs?: number | undefined;
};

export class RecordedEvents implements ServiceEvents {
  readonly #options: RecordedEventsOptions;
  readonly #failures: AuthFailureWindow;

  constructor(options: RecordedEventsOptions) {
    this.#options = options;
    const windowMs = options.authWindowMs ?? AUTH_FAILURES_WINDOW_MS;
    this.#failures = new AuthFailureWindow((failures) => this.#tellFailures(failures), windowMs);
  }

  authFailed(failure: AuthFailure): void {
    this.#failures.add({ ...failure, clientIp: plainAddress(failure.clientIp) });
  }

  #tellFailures({ attempts, clients, keys }: AuthFailures): void {
    try {
      const sealed = { clients: Object.fromEntries(clients), key_ids: Object.fromEntries(keys) };
      this.#owe('auth.failed', {
        outcome: 'denied',
        code: 'UNAUTHENTICATED',
        ...this.#sealed('unauthenticated', sealed),
        usage: { attempts, clients: clients.size },
      });
    } catch (error) {
      this.#options.log.error({ err: error }, 'the audit vault failed'); // the call is refused all the same
    }
  }

  keysChanged(changes: readonly KeyChange[]): void {
    for (const { kind, key } of changes.slice(0, AUDIT_KEY_CHANGES_MAX)) {
      const action = kind === 'policy' ? 'policy.changed' : (`key.${kind}` as const);
      this.#owe(action, { tenant: key.tenant, target: key.id, reason: 'KEYS_FILE' }); // who edited it nobody told us
    }
    const more = changes.length - AUDIT_KEY_CHANGES_MAX;
    if (more > 0) this.#owe('policy.changed', { target: 'keys', reason: 'KEYS_FILE', usage: { changes: more } });
  }

  modelLoaded({ model, modelHash, contextLength }: LoadedModel): void {
    this.#owe('model.loaded', {
      target: model,
      usage: { context_length: contextLength },
      ...(modelHash !== '' && { model_sha: modelHash }),
    });
  }

  modelRejected({ model, error: { code, details } }: { model: string; error: QuernError }): void {
    this.#owe('model.rejected', { outcome: 'error', target: model, code, reason: details.reason });
  }

  engineCrashed({ model, error, requests }: { model: string; error: QuernError; requests: number }): void {
    const { code, details } = error;
    this.#owe('engine.crashed', { outcome: 'error', target: model, code, reason: details.reason, usage: { requests } });
  }

  agentStarted(run: RecordedRun): void {
    this.#oweRun('agent.started', run, { outcome: 'ok' });
  }

  agentFinished({ outcome, reason, code, usage, ...run }: RecordedRun & AgentEnding): void {
    this.#oweRun('agent.finished', run, { outcome, reason, usage, ...(code !== null && { code }) });
  }

  #oweRun(action: AuditEvent['action'], run: RecordedRun, over: Partial<AuditEvent>): void {
    const { runId, principal, model, traceId } = run;
    try {
      const { ref } = this.#options.vault.subject({ tenant: principal.tenant, kind: 'user', id: principal.user });
      const about = { tenant: principal.tenant, actor: { kind: 'user', ref }, target: model } as const;
      this.#owe(action, { ...about, request_id: runId, trace_id: traceId, ...over });
    } catch (error) {
      this.#options.log.error({ err: error, request_id: runId }, 'the audit vault failed'); // its turns are refused then
    }
  }

  /** Tells what was gathered. */
  close(): void {
    this.#failures.close();
  }

  #owe(action: AuditEvent['action'], over: Partial<AuditEvent>): void {
    void this.#options.owed.write(serviceEvent(this.#options.producer, action, over));
  }

  /** Facts about people who are nobody's users: readable by whoever has the vault. */
  #sealed(name: string, facts: { readonly [name: string]: AuditValue }): Pick<AuditEvent, 'actor' | 'sealed'> {
    const subject = this.#options.vault.subject({ tenant: SYSTEM_TENANT, kind: 'service', id: name });
    return { actor: { kind: 'service', ref: subject.ref }, sealed: subject.seal(facts) };
  }
}
