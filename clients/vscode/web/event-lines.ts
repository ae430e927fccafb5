/** Server-sent events out of a response's body (https://html.spec.whatwg.org/multipage/server-sent-events.html). */

/** An event larger than this is none of ours. */
const EVENT_CHARS_MAX = 1024 * 1024;

/** The data of each event, in order. Leaving the loop early cancels the body. Throws an Error for an endless event. */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let held = '';
  try {
    while (true) {
      const { done, value } = await reader.read();
      held += done ? decoder.decode() : decoder.decode(value, { stream: true });
      // A lone \r at the end may be half of \r\n.
      const whole = done || !held.endsWith('\r') ? held : held.slice(0, -1);
      const events = whole.replaceAll('\r\n', '\n').replaceAll('\r', '\n').split('\n\n');
      const rest = (events.pop() ?? '') + held.slice(whole.length);
      for (const event of events) {
        const data = dataOf(event);
        if (data !== null) yield data;
      }
      if (done) return; // an event without its empty line is not one
      if (rest.length > EVENT_CHARS_MAX) throw new Error(`expected events of at most ${EVENT_CHARS_MAX} characters`);
      held = rest;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function dataOf(event: string): string | null {
  const lines = event.split('\n').filter((line) => line.startsWith('data:'));
  if (lines.length === 0) return null;
  return lines.map((line) => line.slice(5).replace(/^ /, '')).join('\n');
}
