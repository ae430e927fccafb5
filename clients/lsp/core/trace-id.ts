/** W3C trace context (https://www.w3.org/TR/trace-context/): each request is a trace of its own, begun here. */

function randomHex(bytes: number): string {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, '0')).join('');
}

/** 32 lower-case hex digits. */
export const newTraceId = (): string => randomHex(16);

/** The header that names a trace to the mesh. Marked as sampled, as other clients do: the mesh exports it where it exports. */
export const traceparentOf = (traceId: string): string => `00-${traceId}-${randomHex(8)}-01`;
