/** What the table of `quern up` says of a part, from what the part itself said when it was ready. */
import { homedir } from 'node:os';
import type { ReadyInfo } from '#kit/parent.ts';

/** "quern-mini on cpu avx2, bf16, context 2048" for an engine; tools and the sandbox's tier; the model names for the others. */
export function describePart(info: ReadyInfo, home = homedir()): string {
  const { model, backend, isa, dtype, contextLength, models } = info;
  if (typeof info.tools === 'number') return describeTools(info, home);
  if (typeof model === 'string') return `${model} on ${backend} ${isa}, ${dtype}, context ${contextLength}`;
  return Array.isArray(models) ? models.join(', ') : '';
}

/** "11 tools, sandbox tier A, packs in ~/packs", or why nothing that needs a sandbox runs and how to get one. */
function describeTools({ tools, tier, missing, packs }: ReadyInfo, home: string): string {
  const where = typeof packs === 'string' ? `, packs in ${underHome(packs, home)}` : '';
  if (typeof tier === 'string') return `${tools} tools, sandbox tier ${tier}${where}`;
  return `${tools} tools${where}, but no sandbox: ${Array.isArray(missing) ? missing.join('. ') : ''}`;
}

/** "~/packs", as a shell reads it. */
const underHome = (path: string, home: string): string =>
  home !== '/' && path.startsWith(`${home}/`) ? `~${path.slice(home.length)}` : path;
