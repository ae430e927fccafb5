// A node:test reporter for scripts/test.mjs: one JSON line per finished test, then the totals. When a run hangs, the
// last line tells how far it got.
import { relative } from 'node:path';

export default async function* countsReporter(source) {
  for await (const { type, data } of source) {
    if ((type === 'test:pass' || type === 'test:fail') && data.nesting === 0) {
      const file = data.file && relative(process.cwd(), data.file);
      yield `${JSON.stringify({ test: data.name, file, passed: type === 'test:pass' })}\n`;
    }
    if (type === 'test:summary' && data.file === undefined) yield `${JSON.stringify({ counts: data.counts })}\n`;
  }
}
