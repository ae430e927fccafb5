// The address of a web page, as far as a browser tells it.

/**
 * An origin of the web as browsers write it in their Origin header (https://fetch.spec.whatwg.org/#origin-header): lower case, without
 * the scheme's own port, no slash behind it. Null for text that is none, or more than one.
 */
export function parseOrigin(text: string): string | null {
  if (!/^https?:\/\/[^\s/?#@\\*]+\/?$/i.test(text) || !URL.canParse(text)) return null;
  return new URL(text).origin;
}
