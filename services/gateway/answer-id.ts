// Ids of OpenAI-shaped answers, which hold the request's own behind a prefix.

const ANSWER_ID = /^(?:chat)?cmpl-(.+)$/;

/** What `find` has for the id as it is, for a caller may have chosen it so, or else for the request that an answer's id names. */
export function byAnswerId<T>(id: string, find: (requestId: string) => T | null): T | null {
  const named = ANSWER_ID.exec(id)?.[1];
  return find(id) ?? (named === undefined ? null : find(named));
}
