// What all RPCs share, built once by service.ts.
import type { Approvals } from './approvals.ts';
import type { ToolCatalog, ToolPacks, WorkspaceCopies } from './call-ports.ts';
import type { Executor } from './executor.ts';
import type { Jail } from './jail/sandbox.ts';
import type { ToolAudit } from './tool-audit.ts';
import type { ToolsStatus } from './tools-status.ts';

export type ToolsContext = {
  readonly catalog: ToolCatalog;
  readonly packs: ToolPacks;
  readonly copies: WorkspaceCopies;
  readonly jail: Jail;
  readonly executor: Executor;
  readonly approvals: Approvals;
  readonly audit: ToolAudit;
  /** Where tools come from, and what is wrong there. */
  status(): ToolsStatus;
};
