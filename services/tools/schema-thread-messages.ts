// What argument-check.ts and its thread say to each other.

export type SchemaRequest =
  | { op: 'compile'; id: number; key: string; schema: string; ignoreUnknown: boolean }
  | { op: 'check'; id: number; key: string; value: string };

/** `unknown`: the schema has to be compiled (again) first. The thread's first message has the id READY_ID. */
export type SchemaReply = { id: number; ok: true } | { id: number; ok: false; unknown: boolean; message: string };
export const READY_ID = 0;
