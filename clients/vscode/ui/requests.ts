/**
 * Stands between VS Code's requests for inline completion and the language server: nothing goes where completion is off, the
 * status bar thinks meanwhile, and what is offered is remembered. Does no work of its own that grows with the document.
 */
import type {
  CancellationToken,
  InlineCompletionContext,
  InlineCompletionItem,
  InlineCompletionList,
  Position,
  ProviderResult,
  TextDocument,
} from 'vscode';
import type { Api } from './api.ts';
import type { Offer, Offered } from './offered.ts';
import { completesIn } from './settings.ts';
import type { StatusBar } from './status-bar.ts';

type Items = InlineCompletionItem[] | InlineCompletionList | null | undefined;
type Next = (
  document: TextDocument,
  position: Position,
  context: InlineCompletionContext,
  token: CancellationToken,
) => ProviderResult<InlineCompletionItem[] | InlineCompletionList>;

export type RequestParts = { api: Api; status: StatusBar; offered: Offered; onDisabled: (uri: string) => void };

export function provideBy({ api, status, offered, onDisabled }: RequestParts) {
  return async (
    document: TextDocument,
    position: Position,
    context: InlineCompletionContext,
    token: CancellationToken,
    next: Next,
  ): Promise<Items> => {
    if (!completesIn(api, document.languageId)) {
      onDisabled(document.uri.toString());
      return [];
    }
    const ended = status.wait();
    const version = document.version;
    try {
      const items = await next(document, position, context, token);
      if (!token.isCancellationRequested && document.version === version) remember(items, document, position, offered);
      return items;
    } finally {
      ended();
    }
  };
}

function remember(items: Items, document: TextDocument, position: Position, offered: Offered): void {
  const [item] = Array.isArray(items) ? items : (items?.items ?? []);
  const offer = item ? offerOf(item, document, position) : null;
  if (offer) offered.show(offer);
}

/** The first is the one that is shown. */
function offerOf(item: InlineCompletionItem, document: TextDocument, position: Position): Offer | null {
  const [id, index] = (item.command?.arguments ?? []) as unknown[];
  const text = typeof item.insertText === 'string' ? item.insertText : item.insertText.value;
  if (typeof id !== 'string' || typeof index !== 'number') return null;
  const before = item.range ? document.getText(item.range.with({ end: position })) : '';
  // What covers blanks before the cursor begins with other blanks: then there is no telling what is typed of it.
  if (!text.startsWith(before)) return null;
  const rest = text.slice(before.length).replaceAll('\r\n', '\n');
  return { uri: document.uri.toString(), id, index, at: position, rest };
}
