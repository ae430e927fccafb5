/** One line of figures for the end of a request. */
import type { RequestEnd } from '#gen/quern/gateway/v1/gateway.ts';

/** "[23 tokens in 61 ms (queue 0, prefill 9, decode 52; 442 tok/s), …; cut at the token limit; request …]"; `how` may be "". */
export function describeEnd(end: RequestEnd, firstTokenMs: number | undefined, how: string): string {
  const { usage, timings } = end;
  const ms = (ns: bigint | undefined): number => Number(ns ?? 0n) / 1e6;
  const queue = ms(timings?.queueNs);
  const prefill = ms(timings?.prefillNs);
  const decode = ms(timings?.decodeNs);
  const tokens = usage?.completionTokens ?? 0;
  const pace = decode > 0 && tokens > 1 ? `; ${Math.round(((tokens - 1) / decode) * 1000)} tok/s` : '';
  const first = firstTokenMs === undefined ? '' : `, first token after ${firstTokenMs.toFixed(0)} ms`;
  return (
    `[${tokens} tokens in ${(queue + prefill + decode).toFixed(0)} ms (queue ${queue.toFixed(0)}, prefill ${prefill.toFixed(0)}, ` +
    `decode ${decode.toFixed(0)}${pace})${first}; ${usage?.cachedTokens ?? 0} of ${usage?.promptTokens ?? 0} prompt tokens cached; ` +
    `${how === '' ? '' : `${how}; `}request ${end.requestId}]`
  );
}
