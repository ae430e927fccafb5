// Speed of the native engine on a model folder, without a server: runs engine_bench and prints what it prints.
//
//   node test/bench/engine.bench.ts MODEL_DIR [options of engine_bench]
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../../engine-native/build/engine_bench', import.meta.url));
if (!existsSync(program)) {
  console.error(
    `engine bench: expected ${program}; build it with: cmake --build engine-native/build --target engine_bench`,
  );
  process.exit(1);
}
const child = spawn(program, process.argv.slice(2), { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  console.error(`engine bench: cannot run ${program}: ${error.message}`);
  process.exitCode = 1;
});
child.on('close', (code) => {
  process.exitCode = code ?? 1;
});
