/** Why nothing is shown. Every answer without a suggestion carries one of these. */
export const REASONS = [
  'DISABLED', // by setting, for this language, or for this kind of trigger
  'EXCLUDED', // the file may hold secrets, or is too large
  'PLACE', // too much text behind the cursor for a suggestion that nobody asked for
  'DEBOUNCED', // further typing came before the request was sent
  'CANCELLED', // by the editor, after it was sent
  'STALE', // the document is not what the request was about
  'FILTERED', // the model's text broke a rule; `rule` names it
  'EMPTY', // the model had nothing to say
  'TIMEOUT', // nothing came in time
  'OVERLOADED', // the mesh sheds load
  'UNAUTHENTICATED', // the API key is missing or refused
  'MODEL_NO_FIM', // the model cannot fill in
  'OFFLINE', // the mesh does not answer; it is not asked again for some seconds
  'FAILED', // the mesh answered with another error
] as const;

export type Reason = (typeof REASONS)[number];
