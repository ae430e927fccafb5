// Takes personal data and secrets out of a text. Made for what people paste into prompts; docs/audit.md has its measured
// precision and recall. Names of people and street addresses have no form and are not found.
import { REDACTION_RULES, type RedactionRule } from './rules.ts';

export type Redacted = {
  text: string;
  /** Hits per rule; only rules that hit. */
  hits: Readonly<Record<string, number>>;
};

/** What stands in the text instead. */
export function placeholder(rule: string): string {
  return `[REDACTED:${rule}]`;
}

function apply(text: string, { name, pattern, accepts }: RedactionRule, hits: Map<string, number>): string {
  let out = '';
  let from = 0;
  for (const match of text.matchAll(pattern)) {
    const secret = match.groups?.secret ?? match[0];
    if (secret.includes('[REDACTED:') || accepts?.(secret) === false) continue;
    const at = match.index + match[0].lastIndexOf(secret);
    out += text.slice(from, at) + placeholder(name);
    from = at + secret.length;
    hits.set(name, (hits.get(name) ?? 0) + 1);
  }
  return from === 0 ? text : out + text.slice(from);
}

export function redact(text: string): Redacted {
  const hits = new Map<string, number>();
  let out = text;
  for (const rule of REDACTION_RULES) out = apply(out, rule, hits);
  return { text: out, hits: Object.fromEntries(hits) };
}
