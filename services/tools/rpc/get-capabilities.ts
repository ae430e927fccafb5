// GetCapabilities: what the sandbox can do here, as its last test saw it.
import type { GetCapabilitiesRequest, GetCapabilitiesResponse } from '#gen/quern/tools/v1/tools.ts';
import type { CallContext } from '#kit/rpc/service.ts';
import type { ToolsContext } from '../context.ts';

export async function getCapabilities(
  { jail }: ToolsContext,
  { probeNow }: GetCapabilitiesRequest,
  { signal }: CallContext,
): Promise<GetCapabilitiesResponse> {
  const { tier, list, probedUnixMs } = probeNow ? await jail.probe({ signal }) : jail.capabilities();
  const capabilities = list.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return { tier: tier ?? '', capabilities, probedUnixMs: BigInt(Math.round(probedUnixMs)) };
}
