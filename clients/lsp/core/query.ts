/** From a place to the query for the mesh: one line or several, how many candidates, and how long. */
import { hasWord, isBlank, opensBlock } from './filters/draft.ts';
import type { ContextChunk, InfillEnding, InfillQuery, Priority } from './infill-source.ts';
import { CANDIDATES_INVOKED, TEMPERATURE_AUTOMATIC, TEMPERATURE_INVOKED } from './limits.ts';
import type { Place } from './place.ts';
import type { Settings } from './settings.ts';

/** Several lines where a block may begin: an empty line or one that opens one; in the middle of a line only the rest of it. */
export function wantsSingleLine({ linePrefix, lineSuffix }: Place, settings: Settings, invoked: boolean): boolean {
  if (settings.multiLine !== 'auto') return settings.multiLine === 'never';
  if (hasWord(lineSuffix)) return true;
  return !invoked && !isBlank(linePrefix) && !opensBlock(linePrefix);
}

/** What one line is the client knows better; where a longer text ends, the mesh reads in the code, unless told. */
export function endingOf(singleLine: boolean, { multiLine }: Settings): InfillEnding {
  if (singleLine) return 'single_line';
  return multiLine === 'always' ? 'multi_line' : 'auto';
}

export type QueryFacts = {
  place: Place;
  settings: Settings;
  priority: Priority;
  singleLine: boolean;
  path: string;
  repository: string;
  chunks: readonly ContextChunk[];
  requestId: string;
  traceId: string;
  supersedeKey: string;
  /** Of the answer: what the settings say, as far as the model has room for it. */
  maxTokens: number;
};

/** Left for the last text to come through after the mesh has ended by itself. */
const RETURN_MS = 50;

export function queryOf(facts: QueryFacts): InfillQuery {
  const { place, settings, priority, singleLine, path, repository, chunks, requestId, traceId, supersedeKey } = facts;
  const { maxTokens } = facts;
  const invoked = priority === 'invoked';
  return {
    requestId,
    traceId,
    model: settings.model,
    prefix: place.prefix,
    suffix: place.suffix,
    path,
    languageId: place.languageId,
    repository,
    chunks,
    singleLine,
    ending: endingOf(singleLine, settings),
    candidates: invoked ? CANDIDATES_INVOKED : 1,
    maxTokens,
    temperature: invoked ? TEMPERATURE_INVOKED : TEMPERATURE_AUTOMATIC,
    priority,
    supersedeKey,
    softDeadlineMs: Math.max(50, settings.hardDeadlineMs - RETURN_MS),
  };
}
