// GetCapabilities: what the sandbox can do here, as its last test saw it.
import type { GetCapabilitiesRequest, GetCapabilitiesResponse } from '#gen/quern/tools/v1/tools.ts';
import type { CallContext } from '#kit/rpc/service.ts';
import type { ToolsContext } from '../context.ts';
import { statusMessage } from '../tools-status.ts';

export async function getCapabilities(
  { jail, status }: ToolsContext,
  { probeNow }: GetCapabilitiesRequest,
  { signal }: CallContext,
): Promise<GetCapabilitiesResponse> {
  const { tier, list, probedUnixMs } = probeNow ? await jail.probe({ signal }) : jail.capabilities();
  const capabilities = list.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const probed = BigInt(Math.round(probedUnixMs));
  return { tier: tier ?? '', capabilities, probedUnixMs: probed, status: statusMessage(status()) };
}
