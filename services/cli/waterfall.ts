/** A request's explanation as text: who and what, its stages as bars below one another, what the figures mean. */
import type { ExplainResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { counted } from './counted.ts';
import { paceText } from './pace.ts';

const BAR_COLUMNS = 48;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

const ms = (us: bigint): number => Number(us) / 1000;

/** "0.4 ms", "61 ms", "2.35 s". */
export function formatMs(milliseconds: number): string {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}

/** A bar from one share of the width to another, to an eighth of a column; what is too short to be seen is one eighth. */
export function bar(from: number, to: number): string {
  const start = Math.min(BAR_COLUMNS - 1, Math.floor(from * BAR_COLUMNS));
  const eighths = Math.max(1, Math.round((to * BAR_COLUMNS - start) * 8));
  const whole = Math.min(BAR_COLUMNS - start, Math.floor(eighths / 8));
  const rest = start + whole < BAR_COLUMNS ? (EIGHTHS[eighths % 8] ?? '') : '';
  return `${' '.repeat(start)}${'█'.repeat(whole)}${rest}`;
}

function heading(answer: ExplainResponse): string[] {
  const { requestId, method, model, outcome, arrived, user, traceId } = answer;
  return [
    `${method} ${requestId}${model === '' ? '' : ` on ${model}`}: ${outcome === '' ? 'still running' : outcome}`,
    `arrived ${arrived} from ${user}; trace ${traceId}`,
  ];
}

/** Wide enough for every name. */
function nameColumns({ stages }: ExplainResponse): number {
  return Math.max(9, ...stages.map(({ name }) => name.length + 1));
}

function stageLines(answer: ExplainResponse): string[] {
  const { stages, durationUs } = answer;
  const columns = nameColumns(answer);
  const total = Math.max(1, Number(durationUs));
  const lines = stages.map(({ name, startUs, durationUs: length }) => {
    const [from, to] = [Number(startUs) / total, Number(startUs + length) / total];
    const figures = `${formatMs(ms(startUs)).padStart(9)} ${formatMs(ms(length)).padStart(9)}`;
    return `  ${name.padEnd(columns)}${figures}  ${bar(from, to)}`.trimEnd();
  });
  return [`  ${'stage'.padEnd(columns)}${'from'.padStart(9)} ${'took'.padStart(9)}`, ...lines];
}

function promptLine({ usage, timings }: ExplainResponse): string | null {
  if (!usage || usage.promptTokens === 0) return null;
  const chunks = timings ? `, prefilled in ${counted(timings.prefillChunks, 'chunk')}` : '';
  return `prompt: ${counted(usage.promptTokens, 'token')}, ${usage.cachedTokens} of them from the prefix cache${chunks}`;
}

function paceLine({ usage, timings, steps, longestGapUs }: ExplainResponse): string | null {
  if (!usage || steps === 0) return null;
  const tokens = usage.completionTokens;
  const decodeMs = Number(timings?.decodeNs ?? 0n) / 1e6;
  const pace = paceText(tokens, decodeMs);
  const rate = pace === '' ? '' : `, ${pace}`;
  const gap = steps > 1 ? `, longest wait between two ${formatMs(ms(longestGapUs))}` : '';
  return `answer: ${counted(tokens, 'token')} in ${counted(steps, 'step')}${rate}${gap}`;
}

function troubleLines({ timings, resumes, code, reason, message }: ExplainResponse): string[] {
  const preemptions = timings?.preemptions ?? 0;
  return [
    ...(preemptions > 0
      ? [`preempted ${counted(preemptions, 'time')}: the KV cache was full, its own was dropped and computed again`]
      : []),
    ...(resumes > 0 ? [`the engine was lost ${counted(resumes, 'time')}; it went on from what it had delivered`] : []),
    ...(code === '' ? [] : [`refused or failed: ${code} ${reason}: ${message}`]),
  ];
}

/** How to look into a run's turns. */
function turnLines({ method, requestId }: ExplainResponse): string[] {
  if (method !== 'agent') return [];
  return [`turns and calls count from 0, as in the ids of calls; the first turn alone: quern trace ${requestId}:0`];
}

/** Lines, each with its newline. */
export function formatWaterfall(answer: ExplainResponse): string {
  const facts = [promptLine(answer), paceLine(answer), ...troubleLines(answer)].filter((line) => line !== null);
  const total = `  ${'all'.padEnd(nameColumns(answer))}${''.padStart(9)} ${formatMs(ms(answer.durationUs)).padStart(9)}`;
  const all = [...facts, ...turnLines(answer)];
  const lines = [...heading(answer), '', ...stageLines(answer), total, ...(all.length > 0 ? ['', ...all] : [])];
  return `${lines.join('\n')}\n`;
}
