/** How a bench request travels. */
import type { BenchRequest } from './scenarios.ts';

export type Answer = { text: string; promptTokens: number; cachedTokens: number; outputTokens: number };

export type Transport = {
  name: string;
  /** Sends one request; calls onText for every chunk that held text. */
  send: (request: BenchRequest, onText: () => void, signal: AbortSignal) => Promise<Answer>;
  close: () => void;
};
