// What the sandbox of the tool service and its tests need from the distribution: bubblewrap, which makes sandboxes, and strace,
// which sees in tests that nothing starts outside of one.
import { installPrograms } from './apt-programs.mjs';

/** For `npm start`. */
export const installBubblewrap = () => installPrograms({ bubblewrap: 'bwrap' });

/** For `npm test`. */
export const installSandboxTools = () => installPrograms({ bubblewrap: 'bwrap', strace: 'strace' });
