// Bounds of the parsers, with their reasons. A model's whole output is bounded by its context length already.

/** UTF-16 units of one call. More than a long context holds; it bounds what is kept in case that the call fails. */
export const CALL_UNITS_MAX = 1 << 21;
/** Characters of a function's or parameter's name. OpenAI allows 64; models make longer ones up. */
export const CALL_NAME_UNITS_MAX = 256;
/** Blanks between calls that are looked at before they count as text. */
export const SEPARATOR_UNITS_MAX = 256;
/** Nesting of arguments, as of replayed ones in the tokenizer. */
export const ARGUMENT_DEPTH_MAX = 32;
/** Steps of coercion of one value: alternatives multiply with depth. */
export const COERCION_STEPS_MAX = 50_000;
/** Schemas that are looked at to say what one value may be; a schema may lead to itself. */
export const SCHEMA_VISITS_MAX = 64;
/** Links that a schema's $ref may follow. */
export const SCHEMA_REFS_MAX = 16;
