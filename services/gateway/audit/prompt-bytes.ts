// The bytes of a prompt that its keyed digest is made of: what the caller gave, in one form for every front door, so that
// whoever has a prompt and its author's key can tell which request it was.
import type { Prompt } from '../typed-request.ts';

/** "kind", then every text in order; each as u32 length (little-endian) and UTF-8 bytes, so that no two prompts share a form. */
class Parts {
  readonly #buffers: Buffer[] = [];

  add(bytes: Buffer): this {
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32LE(bytes.length);
    this.#buffers.push(length, bytes);
    return this;
  }

  text(...texts: readonly (string | number | boolean)[]): this {
    for (const text of texts) this.add(Buffer.from(String(text)));
    return this;
  }

  /** The number of what follows. */
  count(items: readonly unknown[]): this {
    return this.text(items.length);
  }

  joined(): Buffer {
    return Buffer.concat(this.#buffers);
  }
}

function addChat(parts: Parts, { messages, tools }: Extract<Prompt, { kind: 'chat' }>): void {
  parts.count(messages);
  for (const { role, content, reasoningContent, name, toolCalls, toolCallId } of messages) {
    parts.text(role, content, reasoningContent, name, toolCallId).count(toolCalls);
    for (const call of toolCalls) parts.text(call.id, call.name, call.argumentsJson);
  }
  parts.count(tools);
  for (const tool of tools) parts.text(tool.name, tool.description, tool.parametersSchemaJson, tool.strict);
}

function addInfill(parts: Parts, prompt: Extract<Prompt, { kind: 'infill' }>): void {
  parts.text(prompt.prefix, prompt.suffix, prompt.path, prompt.repository).count(prompt.chunks);
  for (const { path, text } of prompt.chunks) parts.text(path, text);
}

export function promptBytes(prompt: Prompt): Buffer {
  const parts = new Parts().text(prompt.kind);
  if (prompt.kind === 'text') parts.text(prompt.text);
  else if (prompt.kind === 'token_ids') parts.add(Buffer.from(Uint32Array.from(prompt.tokenIds).buffer));
  else if (prompt.kind === 'infill') addInfill(parts, prompt);
  else addChat(parts, prompt);
  return parts.joined();
}

/** UTF-8 bytes of the texts that the caller gave; of token ids, 4 bytes each. */
export function promptSize(prompt: Prompt): number {
  switch (prompt.kind) {
    case 'text':
      return Buffer.byteLength(prompt.text);
    case 'token_ids':
      return 4 * prompt.tokenIds.length;
    case 'infill':
      return bytesOf([prompt.prefix, prompt.suffix, ...prompt.chunks.map(({ text }) => text)]);
    case 'chat':
      return bytesOf(
        prompt.messages.flatMap(({ content, toolCalls }) => [content, ...toolCalls.map((c) => c.argumentsJson)]),
      );
  }
}

function bytesOf(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
}
