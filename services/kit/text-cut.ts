// Text cut at a length, never inside a character.

/** At most `unitsMax` >= 1 UTF-16 units, the last of them "…" where something is left out. */
export function shortText(text: string, unitsMax: number): string {
  if (text.length <= unitsMax) return text;
  const end = unitsMax - 1;
  const isSplit = end > 0 && /[\ud800-\udbff]/.test(text[end - 1]!) && /[\udc00-\udfff]/.test(text[end]!);
  return `${text.slice(0, isSplit ? end - 1 : end)}…`;
}

/** The longest start of `text` that has at most `bytesMax` UTF-8 bytes and ends between characters, in UTF-16 units. */
export function fittingUnits(text: string, bytesMax: number): number {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(Math.min(bytesMax, text.length * 3)));
  return read;
}

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80;

/** The longest start of UTF-8 that has at most `max` >= 0 bytes and cuts no character. A view, no copy. */
export function headBytes(bytes: Buffer, max: number): Buffer {
  if (bytes.length <= max) return bytes;
  let end = max;
  while (end > 0 && isContinuation(bytes[end])) end -= 1;
  return bytes.subarray(0, end);
}

/** The same of the end; also where `bytes` themselves begin inside a character, as what is left of a stream may. */
export function tailBytes(bytes: Buffer, max: number): Buffer {
  let start = Math.max(0, bytes.length - max);
  while (start < bytes.length && isContinuation(bytes[start])) start += 1;
  return bytes.subarray(start);
}
