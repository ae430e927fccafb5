// What carries messages to one MCP server and back, and can be ended with all that belongs to it.
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';

/** drain: the service stops; cancelled: whatever it does is not wanted any more; gentle: it may take a moment to stop. */
export type LinkStop = 'drain' | 'cancelled' | 'gentle';

export type Link = {
  readonly transport: Transport;
  /** Settles when nothing of it is left, with the reason in words; never rejects. */
  readonly ended: Promise<string>;
  /** What it may send, counted from here: messages, and bytes where null is the bound between calls. */
  allow(outputBytes: number | null): void;
  /** A new one should take its place when no call runs. */
  isWorn(): boolean;
  /** Settles when nothing of it is left. */
  stop(how: LinkStop): Promise<string>;
};
