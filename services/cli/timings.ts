/** One line of figures for the end of a request. */
import type { RequestEnd } from '#gen/quern/gateway/v1/gateway.ts';
import { counted } from './counted.ts';
import { paceText } from './pace.ts';

const ms = (ns: bigint): number => Number(ns) / 1e6;

/** " in 61 ms (queue 0, prefill 9, decode 52; 442 tok/s)"; "" when no engine gave figures. */
function engineTimes({ timings, usage }: RequestEnd): string {
  if (timings === undefined) return '';
  const [queue, prefill, decode] = [ms(timings.queueNs), ms(timings.prefillNs), ms(timings.decodeNs)];
  const parts = `queue ${queue.toFixed(0)}, prefill ${prefill.toFixed(0)}, decode ${decode.toFixed(0)}`;
  const pace = paceText(usage?.completionTokens ?? 0, decode);
  return ` in ${(queue + prefill + decode).toFixed(0)} ms (${parts}${pace === '' ? '' : `; ${pace}`})`;
}

/** "[23 tokens in 61 ms (queue 0, prefill 9, decode 52; 442 tok/s), …; cut at the token limit; request …]"; `how` may be "". */
export function describeEnd(end: RequestEnd, firstTokenMs: number | undefined, how: string): string {
  const { usage } = end;
  const first = firstTokenMs === undefined ? '' : `, first token after ${firstTokenMs.toFixed(0)} ms`;
  const prompt = `${usage?.cachedTokens ?? 0} of ${counted(usage?.promptTokens ?? 0, 'prompt token')} cached`;
  const said = how === '' ? '' : `${how}; `;
  return `[${counted(usage?.completionTokens ?? 0, 'token')}${engineTimes(end)}${first}; ${prompt}; ${said}request ${end.requestId}]`;
}
