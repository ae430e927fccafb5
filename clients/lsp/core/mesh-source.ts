/** All that the server asks of a mesh. */
import type { CapabilitySource } from './capabilities.ts';
import type { ReportSource } from './event-reporter.ts';
import type { InfillSource } from './infill-source.ts';
import type { WarmSource } from './warmer.ts';

export type MeshSource = InfillSource & CapabilitySource & ReportSource & WarmSource;
