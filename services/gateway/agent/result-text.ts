// What a model gets of a tool's result: text within a byte bound, cut in the middle at whole characters.
import { headBytes, tailBytes } from '#kit/text-cut.ts';

const MARK = '\n[... cut ...]\n';

export type CutText = { text: string; cut: boolean };

/** At most `bytesMax` bytes of UTF-8: the head and the tail, with a mark between them where it fits. */
export function cutText(text: string, bytesMax: number): CutText {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return { text, cut: false };
  const room = bytesMax - Buffer.byteLength(MARK);
  if (room <= 0) return { text: headBytes(bytes, Math.max(0, bytesMax)).toString(), cut: true };
  const head = headBytes(bytes, Math.ceil(room / 2)).toString();
  const tail = tailBytes(bytes, room - Math.ceil(room / 2)).toString();
  return { text: head + MARK + tail, cut: true };
}

/** The result's content, and behind it how a call that failed ended: the model must not take it for success. */
export function modelText(outcome: string, content: string, message: string): string {
  if (outcome === 'OK') return content;
  const ending = message === '' ? `[${outcome}]` : `[${outcome}: ${message}]`;
  return content === '' ? ending : `${content}\n${ending}`;
}
