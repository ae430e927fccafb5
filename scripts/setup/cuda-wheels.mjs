// nvcc without a CUDA installation: five pinned PyPI wheels and two symlinks. Compiles and links; runs need a driver.
import { existsSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { cudaWheels } from '../versions.mjs';
import { installWheels } from './build-tools.mjs';
import { withLock } from './lock.mjs';
import { cudaDir, isExecutable, listFiles, nativeDir } from './paths.mjs';
import { readStamp, SetupError, timed, writeStamp } from './steps.mjs';

const stampPath = join(cudaDir, '.quern-stamp.json');

/** Why the CUDA backend is not compiled on this machine, as a sentence, or null when it is. */
export function cudaSkipReason(skippedSuites) {
  if (skippedSuites.has('cuda')) return 'QUERN_TEST_SKIP lists cuda';
  if (process.arch !== 'x64') return `the pinned nvcc wheels are for x64, this is ${process.arch}`;
  return null;
}

/** True when the tree holds CUDA sources at all. */
export const hasCudaSources = () =>
  listFiles(join(nativeDir, 'src'), (name, isDirectory) => isDirectory || name.endsWith('.cu')).length > 0;

/** The path of the pinned nvcc, or null when it is not installed. */
export function findNvcc() {
  if (JSON.stringify(readStamp(stampPath)) !== JSON.stringify(cudaWheels)) return null;
  const nvcc = join(toolkitDir() ?? cudaDir, 'bin', 'nvcc');
  return isExecutable(nvcc) ? nvcc : null;
}

/** Installs the wheels if they are not there. Throws a SetupError when they cannot be had. */
export async function installCudaWheels() {
  if (findNvcc()) return;
  await withLock('CUDA compiler', async () => {
    if (findNvcc()) return;
    await timed('CUDA compiler', `nvcc ${cudaWheels['nvidia-cuda-nvcc']} installed`, async () => {
      await installWheels(cudaDir, cudaWheels, { purpose: 'Getting the CUDA compiler', advice: '' });
      linkLibraries();
    });
    writeStamp(stampPath, cudaWheels);
  });
}

function toolkitDir() {
  const lib = join(cudaDir, 'lib');
  if (!existsSync(lib)) return null;
  const python = readdirSync(lib).find((name) => name.startsWith('python3'));
  return python ? join(lib, python, 'site-packages', 'nvidia', 'cu13') : null;
}

/** nvcc's profile looks in lib64, and linkers and CMake look for an unversioned libcudart; the wheels have neither. */
function linkLibraries() {
  const toolkit = toolkitDir();
  if (!toolkit || !existsSync(join(toolkit, 'lib', 'libcudart.so.13'))) {
    throw new SetupError(
      `The CUDA wheels were installed, but ${cudaDir} has no lib/python3*/site-packages/nvidia/cu13.`,
    );
  }
  if (!existsSync(join(toolkit, 'lib64'))) symlinkSync('lib', join(toolkit, 'lib64'));
  const cudart = join(toolkit, 'lib', 'libcudart.so');
  if (!existsSync(cudart)) symlinkSync('libcudart.so.13', cudart);
}
