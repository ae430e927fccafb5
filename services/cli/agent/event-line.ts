/** An event of a run as one line of JSON: names as in the contract, bytes as base64, output as text where it is text. */
import type { RunResponse } from '#gen/quern/gateway/v1/agent.ts';

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== undefined)
      .map(([name, inner]) => [snake(name), plain(inner)]),
  );
}

export function eventLine({ sequence, path, event }: RunResponse): string {
  const kind = snake(event?.$case ?? 'unknown');
  return JSON.stringify({ sequence: Number(sequence), path, event: kind, ...(plain(event?.value ?? {}) as object) });
}
