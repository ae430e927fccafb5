/** Times as people write them: 90s, 15m, 6h, 1d, 2w ago, or a date. */
import { QuernError } from '#kit/errors.ts';

const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** RFC 3339 in UTC; "" for undefined. Throws INVALID_ARGUMENT naming the option. */
export function instant(option: string, text: string | undefined, nowMs: number): string {
  if (text === undefined) return '';
  const [, count, unit = ''] = /^(\d{1,6})([smhdw])$/.exec(text) ?? [];
  const ms = count === undefined ? Date.parse(text) : nowMs - Number(count) * UNIT_MS[unit]!;
  if (!Number.isNaN(ms)) return new Date(ms).toISOString();
  throw new QuernError(
    'INVALID_ARGUMENT',
    `--${option}: expected a time ago such as 90s, 15m, 6h, 1d or 2w, or a date such as 2026-01-31T12:00:00Z, got "${text}"`,
  );
}
