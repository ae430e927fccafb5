// Server-sent events of one answer (https://html.spec.whatwg.org/multipage/server-sent-events.html). The head is sent
// with the first event, so that a refusal before it is still a proper HTTP status.
import type { ServerResponse } from 'node:http';
import { SLOW_CLIENT_MS } from '../limits.ts';
import { failureEvent, sendFailure } from './failure.ts';

const HEAD = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // nginx would hold events back
  'x-accel-buffering': 'no',
};

export class EventStream {
  readonly #response: ServerResponse;
  readonly #headers: Record<string, string>;
  #waiting: (() => void)[] = [];

  constructor(response: ServerResponse, headers: Record<string, string>) {
    this.#response = response;
    this.#headers = headers;
  }

  /** Writes whole events. False: the client is behind; `onDrain` is called once when it has caught up. */
  write(events: string, onDrain?: () => void): boolean {
    const response = this.#response;
    if (response.destroyed) return true; // the signal has ended the request already
    if (!response.headersSent) response.writeHead(200, { ...HEAD, ...this.#headers });
    if (response.write(events)) return true;
    if (onDrain) {
      if (this.#waiting.length === 0) response.once('drain', () => this.#drained());
      this.#waiting.push(onDrain);
    }
    return false;
  }

  /** The last event, which OpenAI's clients wait for, and the end. */
  done({ withEvent = true } = {}): void {
    if (withEvent) this.write('data: [DONE]\n\n');
    this.#finish();
  }

  /** Before the first event an HTTP status, after it one error event that says it too, and no [DONE]. */
  fail(thrown: unknown): void {
    if (!this.#response.headersSent) {
      sendFailure(this.#response, thrown);
      return;
    }
    this.write(`data: ${JSON.stringify(failureEvent(thrown))}\n\n`);
    this.#finish();
  }

  /** Ends the answer; a client that does not take it within SLOW_CLIENT_MS loses the connection. */
  #finish(): void {
    const response = this.#response;
    if (response.destroyed) return;
    const timer = setTimeout(() => response.destroy(), SLOW_CLIENT_MS);
    response.once('close', () => clearTimeout(timer));
    response.end();
  }

  #drained(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }
}
