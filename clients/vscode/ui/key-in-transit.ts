/**
 * The API key between the secret storage and the language server. What passes through the language client may be written into its
 * log (quern.trace.server), so that sees a mark, and the key takes its place below, where messages are written to the server.
 */
import type { SecretStorage } from 'vscode';
import type { Message, MessageTransports, MessageWriter } from 'vscode-languageclient';
import { storedKey } from './api-key.ts';

/** Stands for the key in everything that may be logged. */
export const KEY_MARK = '(from the secret storage)';

export class KeyInTransit {
  readonly #secrets: SecretStorage;
  #key = '';

  constructor(secrets: SecretStorage) {
    this.#secrets = secrets;
  }

  /** What to put into settings: the mark, or "" where no key is stored. */
  async mark(): Promise<string> {
    this.#key = await storedKey(this.#secrets);
    return this.#key === '' ? '' : KEY_MARK;
  }

  /** The same transports, but answers with the mark in them leave with the key. */
  over(transports: MessageTransports): MessageTransports {
    const { writer } = transports;
    const unmarked: MessageWriter = {
      onError: (...given) => writer.onError(...given),
      onClose: (...given) => writer.onClose(...given),
      write: (message) => writer.write(withKey(message, this.#key)),
      end: () => writer.end(),
      dispose: () => writer.dispose(),
    };
    return { ...transports, writer: unmarked };
  }
}

type Answer = Message & { result?: unknown };

/** Only answers to workspace/configuration hold the mark: lists of settings. */
function withKey(message: Message, apiKey: string): Message {
  const { result } = message as Answer;
  if (!Array.isArray(result) || !result.some(isMarked)) return message;
  const settings = result.map((one: unknown) => (isMarked(one) ? { ...one, apiKey } : one));
  return { ...message, result: settings } as Answer;
}

const isMarked = (settings: unknown): settings is { apiKey: string } =>
  (settings as { apiKey?: unknown } | null)?.apiKey === KEY_MARK;
