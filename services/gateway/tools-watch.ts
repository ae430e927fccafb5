// How the tool service is, for GET /health: asked every few seconds, so that whoever asks here hears it at once.
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { TOOLS_LOOK_MS } from './limits.ts';

/**
 * "ok": tools run in a sandbox of this tier. "no sandbox": only those run that need none. "unreachable": no tool runs now.
 * "starting": nobody has answered yet. "off": no tool service is configured.
 */
export type ToolsReport = { state: 'ok' | 'no sandbox' | 'unreachable' | 'starting' | 'off'; tier: string | null };

export type ToolsWatch = { readonly report: ToolsReport; close(): void };

export const noTools: ToolsWatch = { report: { state: 'off', tier: null }, close() {} };

/** Asks at once and then every `lookMs`. `tier`: of the sandbox, "" = none; rejects when the service does not answer. */
export function watchTools(
  tier: (options: { signal: AbortSignal }) => Promise<string>,
  { log, lookMs = TOOLS_LOOK_MS }: { log: Log; lookMs?: number },
): ToolsWatch {
  const stop = new AbortController();
  let report: ToolsReport = { state: 'starting', tier: null };
  let timer: NodeJS.Timeout | null = null;
  const heard = (next: ToolsReport): void => {
    if (stop.signal.aborted) return;
    if (next.state !== report.state) log.info({ state: next.state, tier: next.tier }, 'how the tool service is');
    report = next;
  };
  const look = async (): Promise<void> => {
    try {
      const found = await tier({ signal: stop.signal });
      heard(found === '' ? { state: 'no sandbox', tier: null } : { state: 'ok', tier: found });
    } catch {
      heard({ state: 'unreachable', tier: null });
    }
    if (!stop.signal.aborted) timer = setTimeout(() => void look(), lookMs);
  };
  void look();
  return {
    get report() {
      return report;
    },
    close() {
      stop.abort(new QuernError('CANCELLED', 'the gateway is closing'));
      if (timer) clearTimeout(timer);
    },
  };
}
