// What egress.ts and its process say to each other.
import type { EgressSettings, FetchAnswer, FetchRequest } from './guarded-fetch.ts';

export type FetchMessage =
  | { op: 'settings'; settings: EgressSettings }
  | { op: 'fetch'; id: number; request: FetchRequest }
  | { op: 'cancel'; id: number };

export type FetchReply =
  | { id: number; ok: true; answer: FetchAnswer }
  | { id: number; ok: false; denied: boolean; message: string };
