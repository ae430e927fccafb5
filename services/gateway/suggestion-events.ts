// What became of suggestions in editors: checked, then counted. No text, no path and no user reaches a metric.
import { type SuggestionEvent, SuggestionEventKind } from '#gen/quern/gateway/v1/gateway.ts';
import type { FieldViolation } from '#kit/errors.ts';
import { type Metrics, TTFT_BUCKETS_SECONDS } from '#kit/metrics.ts';
import { SUGGESTION_CHARACTERS_MAX, SUGGESTION_EVENTS_MAX } from './limits.ts';
import { invalidArgument, REQUEST_ID } from './typed-request.ts';

const DAY_SECONDS = 86_400;
const LANGUAGE_CHARS_MAX = 64;

const KINDS: Partial<Record<SuggestionEventKind, string>> = {
  [SuggestionEventKind.SUGGESTION_EVENT_KIND_SHOWN]: 'shown',
  [SuggestionEventKind.SUGGESTION_EVENT_KIND_ACCEPTED]: 'accepted',
  [SuggestionEventKind.SUGGESTION_EVENT_KIND_PARTIALLY_ACCEPTED]: 'partially_accepted',
  [SuggestionEventKind.SUGGESTION_EVENT_KIND_DISMISSED]: 'dismissed',
  [SuggestionEventKind.SUGGESTION_EVENT_KIND_KEPT]: 'kept',
  [SuggestionEventKind.SUGGESTION_EVENT_KIND_NOT_SHOWN]: 'not_shown',
};

const REASONS = new Set(
  'DISABLED DEBOUNCED CANCELLED STALE FILTERED EMPTY TIMEOUT OVERLOADED UNAUTHENTICATED MODEL_NO_FIM OFFLINE OTHER'.split(
    ' ',
  ),
);

/** Each is a series of its own: what is not here counts as other. */
const LANGUAGES = new Set(
  (
    'c cpp csharp css dart dockerfile elixir go haskell html java javascript javascriptreact json julia kotlin lua makefile ' +
    'markdown objective-c perl php powershell python r ruby rust scala shellscript sql svelte swift toml typescript ' +
    'typescriptreact vue yaml zig'
  ).split(' '),
);

function violations(event: SuggestionEvent, at: string): FieldViolation[] {
  const found: FieldViolation[] = [];
  const refuse = (field: string, description: string): void => {
    found.push({ field: `${at}.${field}`, description });
  };
  if (event.requestId !== '' && !REQUEST_ID.test(event.requestId)) {
    refuse('request_id', `expected 1..128 of [A-Za-z0-9._:-], got ${event.requestId.length} characters`);
  }
  if (KINDS[event.kind] === undefined) refuse('kind', `expected a kind that is known, got ${event.kind}`);
  if (event.reason !== '' && !REASONS.has(event.reason)) {
    refuse('reason', `expected one of ${[...REASONS].join(', ')}, got "${event.reason.slice(0, 64)}"`);
  }
  if ((event.elapsedMs ?? 0) > DAY_SECONDS * 1_000)
    refuse('elapsed_ms', `expected at most a day, got ${event.elapsedMs}`);
  if ((event.afterSeconds ?? 0) > DAY_SECONDS)
    refuse('after_seconds', `expected at most a day, got ${event.afterSeconds}`);
  if ((event.characters ?? 0) > SUGGESTION_CHARACTERS_MAX) {
    refuse('characters', `expected at most ${SUGGESTION_CHARACTERS_MAX}, got ${event.characters}`);
  }
  if (event.languageId.length > LANGUAGE_CHARS_MAX) {
    refuse('language_id', `expected at most ${LANGUAGE_CHARS_MAX} characters, got ${event.languageId.length}`);
  }
  return found;
}

/** Throws INVALID_ARGUMENT naming every refused field: nothing of a refused report is counted. */
export function checkEvents(events: readonly SuggestionEvent[]): void {
  if (events.length === 0 || events.length > SUGGESTION_EVENTS_MAX) {
    const description = `expected 1..${SUGGESTION_EVENTS_MAX} events, got ${events.length}`;
    throw invalidArgument([{ field: 'events', description }]);
  }
  const found = events.flatMap((event, i) => violations(event, `events[${i}]`));
  if (found.length > 0) throw invalidArgument(found);
}

export type SuggestionMetrics = { count(event: SuggestionEvent): void };

export function createSuggestionMetrics(metrics: Metrics): SuggestionMetrics {
  const events = metrics.counter({
    name: 'quern_suggestion_events_total',
    help: 'What became of suggestions in editors; reason only of those that were not shown',
    labels: ['event', 'reason', 'language'],
  });
  const characters = metrics.counter({
    name: 'quern_suggestion_characters_total',
    help: 'UTF-16 units of suggestions: accepted, partially_accepted, kept',
    labels: ['event', 'language'],
  });
  const shown = metrics.histogram({
    name: 'quern_suggestion_shown_seconds',
    help: 'From a key to the suggestion, as editors measured it',
    labels: ['cache'],
    buckets: TTFT_BUCKETS_SECONDS,
  });
  return {
    count(event) {
      const name = KINDS[event.kind] as string;
      const language = LANGUAGES.has(event.languageId) ? event.languageId : 'other';
      events.inc({ event: name, reason: name === 'not_shown' ? event.reason || 'OTHER' : '', language });
      if (event.characters) characters.inc({ event: name, language }, event.characters);
      if (name === 'shown' && event.elapsedMs !== undefined) {
        shown.observe(event.elapsedMs / 1_000, { cache: event.fromCache ? 'hit' : 'miss' });
      }
    },
  };
}
