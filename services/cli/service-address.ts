/**
 * Where a command finds a service of the mesh. One rule for all commands: the option, else the variable, else the running mesh of this
 * state folder, else what the service has by default: a fixed address, or, where it has none, the only mesh of this user that runs.
 */
import { QuernError } from '#kit/errors.ts';
import type { Io } from './command.ts';
import { type MeshRecord, runningMeshes } from './up/mesh-folder.ts';

export type Sought = {
  /** "--address", and what it says. */
  option: string;
  given: string | undefined;
  /** "QUERN_TOOLS_ADDRESS", and what it says. */
  variable: string;
  set: string | undefined;
  /** Where a mesh has the service; undefined: it has none, or not yet. */
  addressOf: (mesh: MeshRecord) => string | undefined;
  /** A fixed address; or what is thrown when none of `meshes`, which run, has the service. */
  otherwise: string | ((meshes: readonly MeshRecord[]) => QuernError);
};

export type Found = {
  address: string;
  /** Of whom the address is, to be said when nothing answers there: ", which QUERN_GATEWAY names"; "" = the caller named it. */
  source: string;
};

/** Throws INVALID_ARGUMENT where several meshes may be meant, and what `otherwise` makes. */
export function findService(sought: Sought, { config }: Pick<Io, 'config'>): Found {
  const { option, given, variable, set, addressOf, otherwise } = sought;
  if (given !== undefined) return { address: given, source: '' };
  if (set !== undefined) return { address: set, source: `, which ${variable} names` };
  const running = runningMeshes(config.runtimeParents);
  const own = running.filter(({ stateDir }) => stateDir === config.stateDir);
  const looked = own.length > 0 || typeof otherwise === 'string' ? own : running;
  const having = looked.filter((mesh) => addressOf(mesh) !== undefined);
  const first = having.find((mesh) => addressOf(mesh) === otherwise) ?? having[0];
  if (first === undefined) {
    if (typeof otherwise !== 'string') throw otherwise(looked);
    return { address: otherwise, source: `, the default (${untold(sought, own, config.stateDir)})` };
  }
  const address = addressOf(first) ?? '';
  if (having.length > 1 && address !== otherwise) {
    const choices = having.map((mesh) => `${option} ${addressOf(mesh)}`).join(' or ');
    throw new QuernError('INVALID_ARGUMENT', `several meshes run here; say which one is meant: ${choices}`);
  }
  return { address, source: `, where the mesh with pid ${first.pid} of the state folder ${first.stateDir} listens` };
}

/** Why it was the default. */
function untold({ option, variable }: Sought, own: readonly MeshRecord[], stateDir: string): string {
  const starting = own[0] === undefined ? '' : `the mesh with pid ${own[0].pid} is still starting`;
  return `no ${option}, no ${variable}, and ${starting || `no mesh of the state folder ${stateDir} runs`}`;
}
