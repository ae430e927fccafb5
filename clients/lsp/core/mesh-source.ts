/** All that the server asks of a mesh. */
import type { CapabilitySource } from './capabilities.ts';
import type { ReportSource } from './event-reporter.ts';
import type { InfillSource } from './infill-source.ts';

export type MeshSource = InfillSource & CapabilitySource & ReportSource;
