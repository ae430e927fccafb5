// A trace as a picture that a test can compare, and what must hold in every trace.
import assert from 'node:assert/strict';
import type { ReceivedSpan } from './otlp-spans.ts';

const byStart = (a: ReceivedSpan, b: ReceivedSpan): number =>
  a.startNs === b.startNs ? a.name.localeCompare(b.name) : a.startNs < b.startNs ? -1 : 1;

export function childrenOf(spans: readonly ReceivedSpan[], parent: ReceivedSpan): ReceivedSpan[] {
  return spans.filter((span) => span.parentSpanId === parent.spanId).sort(byStart);
}

/** The spans of which the trace has no parent: its roots, and orphans if there are any. */
export function topsOf(spans: readonly ReceivedSpan[]): ReceivedSpan[] {
  const ids = new Set(spans.map((span) => span.spanId));
  return spans.filter((span) => !ids.has(span.parentSpanId)).sort(byStart);
}

/** One line per span, children below their parent in the order of their start: "service name KIND [ERROR code]". */
export function pictureOf(spans: readonly ReceivedSpan[]): string[] {
  const lines: string[] = [];
  const draw = (span: ReceivedSpan, depth: number): void => {
    const error = span.status.code === 'ERROR' ? ` ERROR ${span.status.message}` : '';
    lines.push(`${'  '.repeat(depth)}${span.service} ${span.name} ${span.kind}${error}`);
    for (const below of childrenOf(spans, span)) draw(below, depth + 1);
  };
  for (const top of topsOf(spans)) draw(top, 0);
  return lines;
}

/** Clocks of processes of one machine agree to this. */
const SLACK_NS = 1_000_000n;

/**
 * What holds in every whole trace: one top, below `remoteParent`; ids used once; no end before its start; and, with
 * `nested`, each child within its parent to a millisecond.
 */
export function checkTrace(spans: readonly ReceivedSpan[], remoteParent: string, options: { nested: boolean }): void {
  const tops = topsOf(spans);
  assert.deepEqual(
    tops.map((span) => span.parentSpanId),
    [remoteParent],
    `one top and no orphan: ${pictureOf(spans).join('\n')}`,
  );
  assert.equal(new Set(spans.map((span) => span.spanId)).size, spans.length, 'a span was sent twice');
  for (const span of spans) {
    assert.ok(span.endNs >= span.startNs, span.name);
    if (!options.nested) continue;
    for (const below of childrenOf(spans, span)) {
      const early = span.startNs - below.startNs;
      const late = below.endNs - span.endNs;
      assert.ok(early <= SLACK_NS && late <= SLACK_NS, `${below.name} leaves ${span.name} by ${early} / ${late} ns`);
    }
  }
}

/** Share of a span's time that none of its children covers, 0..1. */
export function uncoveredShare(spans: readonly ReceivedSpan[], of: ReceivedSpan): number {
  const total = of.endNs - of.startNs;
  if (total <= 0n) return 0;
  let covered = 0n;
  let until = of.startNs;
  for (const below of childrenOf(spans, of)) {
    const from = below.startNs > until ? below.startNs : until;
    const to = below.endNs < of.endNs ? below.endNs : of.endNs;
    if (to <= from) continue;
    covered += to - from;
    until = to;
  }
  return Number(total - covered) / Number(total);
}
