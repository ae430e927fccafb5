// Requests that the outbox has as accepted and not as finished. After a crash they are found again from the records that are
// kept and from a file that carries those whose accepted record was let go. Whenever a kill comes, each is found exactly once:
// the file is whole and durable before a segment goes, and an end that the file does not know yet lies in a segment that stays.
import type { Outbox } from '#kit/audit/outbox.ts';
import type { AuditRecord } from '#kit/audit/record.ts';
import type { SegmentFiles } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';

/** What the end record of a request says again; `id` and `seq` are its accepted record's. */
export type OpenRequest = Required<Pick<AuditRecord, 'id' | 'seq' | 'tenant' | 'actor' | 'target'>> &
  Pick<AuditRecord, 'request_id' | 'trace_id'>;

const FILE = 'open-requests.json';

/** Most records are neither: they are not parsed. */
const MAYBE_REQUEST = '"action":"request.';

async function readCarried(files: SegmentFiles): Promise<OpenRequest[]> {
  const bytes = await files.read(FILE);
  if (bytes === null) return [];
  try {
    const { v, requests } = JSON.parse(bytes.toString('utf8')) as { v?: unknown; requests?: unknown };
    if (v === 1 && Array.isArray(requests)) return requests as OpenRequest[];
  } catch {
    // told below
  }
  const message = `audit outbox: ${FILE} is not readable; nothing was changed: keep the folder, restore it, or start with a new one`;
  throw new QuernError('DATA_LOSS', message, { reason: 'AUDIT_OUTBOX_DAMAGED' });
}

export class OpenRequests {
  readonly #files: SegmentFiles;
  readonly #open = new Map<string, OpenRequest>();

  constructor(files: SegmentFiles) {
    this.#files = files;
  }

  get size(): number {
    return this.#open.size;
  }

  all(): OpenRequest[] {
    return [...this.#open.values()];
  }

  /** Its accepted record is on disk. */
  add(request: OpenRequest): void {
    this.#open.set(request.id, request);
  }

  /** Its end record is on disk. */
  delete(id: string): void {
    this.#open.delete(id);
  }

  /** Takes over what an earlier process left open. Reads every record that is kept. */
  async recover(outbox: Pick<Outbox, 'records'>): Promise<void> {
    for (const request of await readCarried(this.#files)) this.add(request);
    for await (const bytes of outbox.records()) {
      if (!bytes.includes(MAYBE_REQUEST)) continue;
      const record = JSON.parse(bytes.toString('utf8')) as AuditRecord;
      const { id, seq, tenant, actor, action, target = '', request_id, trace_id, parent_id = '' } = record;
      if (action === 'request.finished') this.delete(parent_id);
      else if (action === 'request.accepted') {
        this.add({ id, seq, tenant, actor, target, ...(request_id && { request_id }), ...(trace_id && { trace_id }) });
      }
    }
  }

  /** Before the records up to `lastSeq` are let go: writes down which of them are still open. */
  async carry(lastSeq: number): Promise<void> {
    const requests = this.all().filter(({ seq }) => seq <= lastSeq);
    await this.#files.replace(FILE, Buffer.from(`${JSON.stringify({ v: 1, requests })}\n`));
  }
}
