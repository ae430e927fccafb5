// Takes personal data and secrets out of a text. Made for what people paste into prompts; its precision and recall are measured
// by test/unit/kit/redaction/corpus.test.ts. Names of people and street addresses have no form and are not found.
import { PUBLIC_TEXT, REDACTION_RULES, type RedactionForm, type RedactionRule } from './rules.ts';

export type Redacted = {
  text: string;
  /** Hits per rule; only rules that hit. */
  hits: Readonly<Record<string, number>>;
};

/** What is taken out of a text, in UTF-16 units, end excluded, and the rule that found it. */
export type Span = { start: number; end: number; rule: string };

/** What stands in the text instead. */
export function placeholder(rule: string): string {
  return `[REDACTED:${rule}]`;
}

/** Characters before and after what was found that its check sees. */
const AROUND = 48;

function* spansOf(text: string, { name, pattern, accepts, forms }: RedactionRule): Generator<Span> {
  let from = 0;
  for (const match of text.matchAll(pattern)) {
    if (forms) {
      if (match.index < from) continue; // a name inside the value before it
      const value = valueAt(text, match.index + match[0].length, forms);
      if (value) yield { ...value, rule: name };
      from = value?.end ?? from;
      continue;
    }
    const { start, end } = secretOf(match);
    const around = { before: text.slice(Math.max(0, start - AROUND), start), after: text.slice(end, end + AROUND) };
    if (accepts?.(text.slice(start, end), around) !== false) yield { start, end, rule: name };
  }
}

function secretOf(match: RegExpExecArray): { start: number; end: number } {
  const secret = match.groups?.secret ?? match[0];
  const start = match.index + match[0].lastIndexOf(secret);
  return { start, end: start + secret.length };
}

function valueAt(text: string, at: number, forms: readonly RedactionForm[]): { start: number; end: number } | null {
  for (const { pattern, accepts } of forms) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match && accepts(match.groups?.secret ?? '')) return secretOf(match);
  }
  return null;
}

/** What the entropy rule finds in text that is public by its form does not count. */
function withoutPublic(text: string, spans: Span[]): Span[] {
  if (spans.length === 0) return spans;
  const areas = Array.from(text.matchAll(PUBLIC_TEXT), ({ index, 0: area }) => ({
    start: index,
    end: index + area.length,
  }));
  let next = 0;
  return spans.filter((span) => {
    while (next < areas.length && (areas[next]?.end ?? 0) <= span.start) next += 1;
    return next === areas.length || (areas[next]?.start ?? 0) >= span.end;
  });
}

/** Spans of the text in order and apart: what several rules found is one span, under the name of the rule that comes first. */
export function findSpans(text: string): Span[] {
  const found = REDACTION_RULES.flatMap((rule, order) => {
    const spans = [...spansOf(text, rule)];
    return (rule.name === 'entropy' ? withoutPublic(text, spans) : spans).map((span) => ({ ...span, order }));
  });
  found.sort((a, b) => a.start - b.start || a.order - b.order);
  const apart: typeof found = [];
  for (const span of found) {
    const last = apart.at(-1);
    if (!last || span.start >= last.end) {
      apart.push(span);
      continue;
    }
    last.end = Math.max(last.end, span.end);
    if (span.order >= last.order) continue;
    last.order = span.order;
    last.rule = span.rule;
  }
  return apart.map(({ start, end, rule }) => ({ start, end, rule }));
}

/** The text before `end` (UTF-16 units) with what is found in all of it taken out: a secret that `end` cuts goes whole. */
export function redact(text: string, end = text.length): Redacted {
  const hits = new Map<string, number>();
  let [out, from] = ['', 0];
  for (const span of findSpans(text)) {
    if (span.start >= end) break;
    out += text.slice(from, span.start) + placeholder(span.rule);
    from = span.end;
    hits.set(span.rule, (hits.get(span.rule) ?? 0) + 1);
  }
  return { text: out + text.slice(from, Math.max(from, end)), hits: Object.fromEntries(hits) };
}
