/**
 * Text that others wrote (a model, a tool, a client, an error of a service) as it may be written to a stream. A terminal obeys
 * control characters, so there they are shown instead, as `less` shows them; a file or a pipe gets every byte as it came.
 */

export type Output = { isTTY?: boolean; write(text: string): unknown };

/** "␛" for ESC, "␡" for DEL, "<U+009B>" for one of C1, which has no picture. */
function picture(character: string): string {
  const code = character.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? '\u2421' : `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`;
}

/** What a terminal gets. Line ends and tabs pass. */
export function visible(text: string): string {
  return text.replace(/(?!\r?\n|\t)\p{Cc}/gu, picture);
}

/** `text` for `out`: shown at a terminal, exact elsewhere. */
export function textFor(out: Pick<Output, 'isTTY'>, text: string): string {
  return out.isTTY === true ? visible(text) : text;
}

/** For a place that must stay one line whatever it holds, as a cell of a table: line ends and tabs are shown too. */
export function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, picture);
}

/** For what a person approves: also characters that a terminal does not show, or that turn the order of others round, by their numbers. */
export function plainSight(text: string): string {
  return visible(text).replace(/[\p{Cf}\p{Zl}\p{Zp}]/gu, (one) => `\\u{${one.codePointAt(0)?.toString(16)}}`);
}
