// node scripts/build-native.mjs [--preset release|asan|tsan|cuda] [--test] [--force] [target ...]
// Builds the native engine; does nothing when nothing changed. `--test` adds what the tests need.
import { parseArgs } from 'node:util';
import { buildNative, presets, testTargets } from './setup/native-build.mjs';
import { SetupError } from './setup/steps.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    preset: { type: 'string', default: 'release' },
    test: { type: 'boolean', default: false },
    force: { type: 'boolean', default: false },
  },
});

try {
  const { preset, test, force } = values;
  if (!Object.hasOwn(presets, preset)) {
    throw new SetupError(`--preset is one of ${Object.keys(presets).join(', ')}; got "${preset}".`);
  }
  const defaults = test && preset === 'release' ? testTargets : presets[preset].targets;
  await buildNative({ preset, force, targets: positionals.length > 0 ? positionals : defaults, verbose: true });
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
