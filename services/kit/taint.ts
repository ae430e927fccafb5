// What a conversation has touched: text that somebody else wrote, private data, and a way out for it. See the proto's Taint.

export type Taint = { readonly readUntrusted: boolean; readonly hasPrivate: boolean; readonly canExfiltrate: boolean };

export const NO_TAINT: Taint = { readUntrusted: false, hasPrivate: false, canExfiltrate: false };

/** Both together: what either has touched, and nothing is ever taken back. */
export function addTaint(a: Taint, b: Taint): Taint {
  return {
    readUntrusted: a.readUntrusted || b.readUntrusted,
    hasPrivate: a.hasPrivate || b.hasPrivate,
    canExfiltrate: a.canExfiltrate || b.canExfiltrate,
  };
}
