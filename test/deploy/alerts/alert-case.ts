// What a case of an alert is, and series that several have. In the notation of promtool: 'a+bxn' is a, a+b, ... n more times, one
// value a minute; '_' is no value.

export type AlertCase = {
  alert: string;
  /** Why it fires, or why it does not. */
  because: string;
  series: Record<string, string>;
  /** Minutes after the first value. */
  at: number;
  /** Alerts that fire then; 0: silent. */
  fires: number;
};

export const COMPLETION = 'gen_ai_operation_name="text_completion",service="gateway"';

/** Completions per minute over `minutes`, of which `slow` take longer than 1.5 s, cancelled ones aside. */
export function completions(total: number, slow: number, minutes: number): Record<string, string> {
  const name = 'gen_ai_server_request_duration_seconds';
  return {
    [`${name}_bucket{${COMPLETION},le="1.5"}`]: `0+${total - slow}x${minutes}`,
    [`${name}_bucket{${COMPLETION},le="2.5"}`]: `0+${total - slow}x${minutes}`,
    [`${name}_bucket{${COMPLETION},le="5"}`]: `0+${total}x${minutes}`,
    [`${name}_bucket{${COMPLETION},le="+Inf"}`]: `0+${total}x${minutes}`,
    [`${name}_count{${COMPLETION}}`]: `0+${total}x${minutes}`,
  };
}

export function firstTokens(total: number, slow: number, minutes: number): Record<string, string> {
  const name = 'gen_ai_server_time_to_first_token_seconds';
  return {
    [`${name}_bucket{service="gateway",le="0.35"}`]: `0+${total - slow}x${minutes}`,
    [`${name}_count{service="gateway"}`]: `0+${total}x${minutes}`,
  };
}

/** Requests per minute by outcome. */
export function requests(outcomes: Record<string, number>, minutes = 60): Record<string, string> {
  return Object.fromEntries(
    Object.entries(outcomes).map(([outcome, count]) => [
      `quern_gateway_requests_total{model="m",outcome="${outcome}"}`,
      `0+${count}x${minutes}`,
    ]),
  );
}

export const fires = (
  alert: string,
  because: string,
  series: Record<string, string>,
  at: number,
  count = 1,
): AlertCase => ({
  alert,
  because,
  series,
  at,
  fires: count,
});
export const silent = (alert: string, because: string, series: Record<string, string>, at: number): AlertCase =>
  fires(alert, because, series, at, 0);

/** A gauge that stands at `high` fires, at `low` it does not, and `high` for less than its time does not either. */
export function threshold(
  alert: string,
  series: string,
  options: { high: string; low: string; at: number },
): AlertCase[] {
  const { high, low, at } = options;
  const early = at > 1 ? [silent(alert, 'not for long enough', { [series]: `${low} ${low} ${high}x60` }, at - 1)] : [];
  return [
    fires(alert, `stands at ${high}`, { [series]: `${high}x60` }, at),
    silent(alert, `stands at ${low}`, { [series]: `${low}x60` }, at + 30),
    ...early,
  ];
}
