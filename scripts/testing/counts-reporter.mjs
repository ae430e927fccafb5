// A node:test reporter for scripts/test.mjs: one JSON line per finished test, then the totals. When a run hangs, the
// last line tells how far it got.
import { relative } from 'node:path';

export default async function* countsReporter(source) {
  let skippedSuites = 0; // node:test's own counts leave out a describe block that was skipped as a whole
  for await (const { type, data } of source) {
    if (type === 'test:pass' && data.details.type === 'suite' && data.skip !== undefined) skippedSuites++;
    if ((type === 'test:pass' || type === 'test:fail') && data.nesting === 0) {
      const file = data.file && relative(process.cwd(), data.file);
      yield `${JSON.stringify({ test: data.name, file, passed: type === 'test:pass', ms: Math.round(data.details.duration_ms) })}\n`;
    }
    if (type === 'test:summary' && data.file === undefined) {
      yield `${JSON.stringify({ counts: { ...data.counts, skipped: data.counts.skipped + skippedSuites } })}\n`;
    }
  }
}
