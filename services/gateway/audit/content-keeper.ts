// The text of prompts and answers for tenants whose policy keeps them. Each is in the content store, on disk, before the record
// that names it.
import type { ContentPolicies, ContentPolicy } from '#kit/audit/content-policy.ts';
import { NO_CONTENT, readContentPolicy } from '#kit/audit/content-policy.ts';
import { ContentStore } from '#kit/audit/content-store.ts';
import type { AuditEvent } from '#kit/audit/record.ts';
import type { Subject } from '#kit/audit/vault.ts';
import type { Log } from '#kit/log.ts';
import { CONTENT_SWEEP_MS } from '../limits.ts';

/** What the record says of kept text; nothing when none was kept. */
export type KeptFields = Pick<AuditEvent, 'content_ref' | 'redactions' | 'policy_sha'>;

export type ContentKind = 'prompt' | 'response';

export class ContentKeeper {
  readonly #store: ContentStore;
  readonly #policies: ContentPolicies;
  readonly #sweep: NodeJS.Timeout;

  private constructor(store: ContentStore, policies: ContentPolicies, log: Log) {
    this.#store = store;
    this.#policies = policies;
    this.#sweep = setInterval(() => {
      store.sweep().catch((error: unknown) => log.error({ err: error }, 'old audit content cannot be deleted'));
    }, CONTENT_SWEEP_MS);
  }

  /**
   * Without a policy file nothing is kept anew, and what an earlier policy kept still goes when its time has come. Throws
   * INVALID_ARGUMENT or FAILED_PRECONDITION for a policy file that cannot be used.
   */
  static async open(options: { dir: string; policyFile: string | null; log: Log }): Promise<ContentKeeper> {
    const { policyFile } = options;
    const policies = policyFile === null ? NO_CONTENT : await readContentPolicy(policyFile);
    return new ContentKeeper(await ContentStore.open(options.dir), policies, options.log);
  }

  /** The policy under which text of this kind is kept for a tenant; null: none is. */
  policy(tenant: string, kind: ContentKind): ContentPolicy | null {
    const policy = this.#policies.get(tenant);
    const wanted = kind === 'prompt' ? policy?.prompts : policy?.responses;
    return policy && wanted ? policy : null;
  }

  /** Resolves when the text is on disk. Throws UNAVAILABLE or RESOURCE_EXHAUSTED when it is not and will not be. */
  async keep(
    subject: Subject,
    policy: ContentPolicy,
    content: { kind: ContentKind; text: string },
  ): Promise<KeptFields> {
    const kept = await this.#store.keep(subject, policy, content);
    return kept ? { ...kept, policy_sha: policy.sha } : {};
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    await this.#store.close();
  }
}
