// A service as plain async functions, typed from its generated definition.

import { assert } from '#kit/assert.ts';
import type { Principal } from '#kit/principal.ts';
import type { TraceContext } from '#kit/trace.ts';

/** One method of a generated XService constant. */
export type MethodDefinition = {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (value: never) => Buffer;
  readonly requestDeserialize: (value: Buffer) => unknown;
  readonly responseSerialize: (value: never) => Buffer;
  readonly responseDeserialize: (value: Buffer) => unknown;
};

export type ServiceDefinition = Readonly<Record<string, MethodDefinition>>;

export type RequestOf<M extends MethodDefinition> = ReturnType<M['requestDeserialize']>;
export type ResponseOf<M extends MethodDefinition> = ReturnType<M['responseDeserialize']>;

export type MetadataReader = { get(name: string): string | undefined };

/** What a handler knows about its call. */
export type CallContext = {
  /** "quern.engine.v1.EngineService/Describe" */
  readonly method: string;
  /** The caller's x-request-id, or a new UUIDv7. */
  readonly requestId: string;
  /** Client cancel, deadline, lost connection, end of the drain. Its reason is a QuernError. */
  readonly signal: AbortSignal;
  readonly deadlineUnixMs: number | null;
  readonly principal: Principal;
  /** This call's span: the caller's trace with an own span id, or a new trace. */
  readonly trace: TraceContext;
  /** "127.0.0.1:40312" or "unix#7", one per connection. */
  readonly peer: string;
  readonly metadata: MetadataReader;
  /** Adds a trailer to the final status. */
  setTrailer(name: string, value: string): void;
};

/** The answer stream of one call. */
export type Out<T> = {
  /**
   * Queues the message; it is encoded here, so it may be reused. False: not flushed yet, wait for drained() or merge.
   * After a cancel it does nothing and answers false. Throws RESOURCE_EXHAUSTED when `false` was ignored for too long.
   */
  write(message: T): boolean;
  /** Resolves when write() would answer true. Rejects with the call's or the given signal's reason. */
  drained(signal?: AbortSignal): Promise<void>;
  readonly writable: boolean;
};

/**
 * Client streaming has no handler shape: none of our protos uses it.
 * Bidi: Node's clients half-close before they reset, so a cancel ends `incoming` first and aborts call.signal about a
 * millisecond later.
 */
export type Handler<M extends MethodDefinition> = M extends { readonly responseStream: true }
  ? M extends { readonly requestStream: true }
    ? (incoming: AsyncIterable<RequestOf<M>>, call: CallContext, out: Out<ResponseOf<M>>) => Promise<void>
    : (request: RequestOf<M>, call: CallContext, out: Out<ResponseOf<M>>) => Promise<void>
  : M extends { readonly requestStream: true }
    ? never
    : (request: RequestOf<M>, call: CallContext) => Promise<ResponseOf<M>> | ResponseOf<M>;

export type Handlers<D extends ServiceDefinition> = { readonly [K in keyof D]: Handler<D[K]> };

/** A handler whose types were checked when it was defined. */
export type ErasedHandler = (...args: readonly never[]) => unknown;
export type RegisteredMethod = { definition: MethodDefinition; handler: ErasedHandler };

export type ServiceRegistration = {
  /** "quern.engine.v1.EngineService" */
  readonly name: string;
  readonly methods: readonly RegisteredMethod[];
  /** Answers without authentication, is not logged above debug and does not hold up a drain (health). */
  readonly open: boolean;
  /** Does not hold up a drain (reflection). */
  readonly background: boolean;
};

/** Binds handlers to a generated definition. Every method needs one: an RPC without code is not in the proto. */
export function defineService<const D extends ServiceDefinition>(
  definition: D,
  handlers: Handlers<D>,
  options: { open?: boolean; background?: boolean } = {},
): ServiceRegistration {
  const methods = Object.entries(definition).map(([name, method]) => {
    const handler = handlers[name] as unknown as ErasedHandler | undefined;
    assert(typeof handler === 'function', `${method.path} has no handler`);
    assert(method.responseStream || !method.requestStream, `${method.path}: client streaming is not supported`);
    return { definition: method, handler };
  });
  const name = methods[0]?.definition.path.split('/')[1];
  assert(name !== undefined, 'a service needs at least one method');
  return { name, methods, open: options.open ?? false, background: options.background ?? options.open ?? false };
}
