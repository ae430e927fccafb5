/** How fast tokens came. */

/** Below these the figure says more about the clock than about the engine. */
const TOKENS_MIN = 8;
const DECODE_MS_MIN = 50;

/** "442 tok/s" for the tokens after the first; "" when there are too few of them to tell. */
export function paceText(tokens: number, decodeMs: number): string {
  const isTelling = tokens >= TOKENS_MIN && decodeMs >= DECODE_MS_MIN;
  return isTelling ? `${Math.round(((tokens - 1) / decodeMs) * 1000)} tok/s` : '';
}
