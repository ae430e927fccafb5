// What a model gets of a tool's result: text within a byte bound, cut in the middle at whole characters.

const MARK = '\n[... cut ...]\n';

export type CutText = { text: string; cut: boolean };

/** At most `bytesMax` bytes of UTF-8: the head and the tail, with a mark between them where it fits. */
export function cutText(text: string, bytesMax: number): CutText {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return { text, cut: false };
  const room = bytesMax - Buffer.byteLength(MARK);
  if (room <= 0) return { text: wholeHead(bytes, bytesMax), cut: true };
  const head = wholeHead(bytes, Math.ceil(room / 2));
  const tail = wholeTail(bytes, room - Math.ceil(room / 2));
  return { text: head + MARK + tail, cut: true };
}

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80;

function wholeHead(bytes: Buffer, size: number): string {
  let end = Math.max(0, size);
  while (end > 0 && isContinuation(bytes[end])) end -= 1;
  return bytes.toString('utf8', 0, end);
}

function wholeTail(bytes: Buffer, size: number): string {
  let start = bytes.length - Math.max(0, size);
  while (start < bytes.length && isContinuation(bytes[start])) start += 1;
  return bytes.toString('utf8', start);
}

/** The result's content, and behind it how a call that failed ended: the model must not take it for success. */
export function modelText(outcome: string, content: string, message: string): string {
  if (outcome === 'OK') return content;
  const ending = message === '' ? `[${outcome}]` : `[${outcome}: ${message}]`;
  return content === '' ? ending : `${content}\n${ending}`;
}
