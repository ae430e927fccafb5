// What a process tells the supervisor that started it. Without an ipc channel each call does nothing, so that every
// process also runs alone.

export type ReadyInfo = { addresses: string[]; [key: string]: unknown };

export type ParentMessage =
  | ({ type: 'ready' } & ReadyInfo)
  | { type: 'progress'; phase: string; done: number; total: number }
  | { type: 'fatal'; message: string; reason?: string };

function tell(message: ParentMessage): void {
  if (!process.send || !process.connected) return;
  process.send(message, undefined, undefined, () => {}); // a parent that just died is found by 'disconnect'
}

/** Everything listens: where, and what else the table of `quern up` shows (model, backend). */
export function reportReady(info: ReadyInfo): void {
  tell({ ...info, type: 'ready' });
}

/** A long start: phase in words ("loading weights"), done of total in the phase's own unit. */
export function reportProgress(progress: { phase: string; done: number; total: number }): void {
  tell({ type: 'progress', ...progress });
}

/** Why this process is about to exit, for the person at the terminal; `reason` is its word for programs. */
export function reportFatal(message: string, reason?: string): void {
  tell({ type: 'fatal', message, ...(reason !== undefined && { reason }) });
}
