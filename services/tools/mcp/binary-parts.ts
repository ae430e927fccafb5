// Images, audio and binary resources of one result: bytes for whoever calls, a sentence for the model.
import type { ArtifactBytes } from '../tool.ts';
import { MCP_BINARIES_BYTES_MAX, MCP_BINARY_BYTES_MAX } from './limits.ts';

const EXTENSIONS: Readonly<Record<string, string>> = {
  'image/png': '.png',
  'image/jpeg': '.jpg',
  'image/gif': '.gif',
  'image/webp': '.webp',
  'image/svg+xml': '.svg',
  'audio/wav': '.wav',
  'audio/mpeg': '.mp3',
  'audio/ogg': '.ogg',
  'application/pdf': '.pdf',
};
const MEDIA_TYPE = /^[a-z0-9][a-z0-9.+-]{0,60}\/[a-z0-9][a-z0-9.+-]{0,60}$/i;

export class BinaryParts {
  readonly #kept: ArtifactBytes[] = [];
  #left = MCP_BINARIES_BYTES_MAX;

  get artifacts(): readonly ArtifactBytes[] {
    return this.#kept;
  }

  /** Keeps it when it is small enough; answers what the model is told: how many bytes, and the name that callers know them by. */
  add(kind: 'image' | 'audio' | 'resource', said: string | undefined, base64: string): string {
    const size = Buffer.byteLength(base64, 'base64');
    if (size > Math.min(MCP_BINARY_BYTES_MAX, this.#left)) return `${size} bytes, too large to be kept`;
    this.#left -= size;
    const mediaType = MEDIA_TYPE.test(said ?? '') ? said!.toLowerCase() : '';
    const path = `${kind}-${this.#kept.length + 1}${EXTENSIONS[mediaType] ?? ''}`;
    this.#kept.push({ path, mediaType, data: Buffer.from(base64, 'base64') });
    return `${size} bytes, kept as ${path}`;
  }
}
