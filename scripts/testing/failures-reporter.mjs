// A node:test reporter for people: failures in full, skipped tests with their reason, nothing for what passes.
import { relative } from 'node:path';
import { inspect } from 'node:util';

export default async function* failuresReporter(source) {
  for await (const { type, data } of source) {
    if (type === 'test:fail' && isOwnFailure(data)) yield describeFailure(data);
    else if (type === 'test:pass' && typeof data.skip === 'string') yield `  skipped: ${data.name} (${data.skip})\n`;
    else if (type === 'test:stdout' || type === 'test:stderr') yield data.message;
  }
}

/** A suite or parent test that fails only because something inside it failed is not told twice. */
function isOwnFailure(data) {
  return data.details.error?.failureType !== 'subtestsFailed' && data.todo === undefined;
}

function describeFailure(data) {
  const { error } = data.details;
  const cause = error?.cause ?? error;
  const where = data.file ? `${relative(process.cwd(), data.file)}:${data.line}` : '';
  const text = cause instanceof Error ? (cause.stack ?? cause.message) : inspect(cause);
  return `  FAILED: ${data.name}  ${where}\n${text.replace(/^/gm, '    ')}\n`;
}
