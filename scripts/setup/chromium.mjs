// Chromium, in which the editor suite runs VS Code's workbench: the distribution's package, without its optional parts.
import { installPrograms } from './apt-programs.mjs';

export const installChromium = () => installPrograms({ chromium: 'chromium' });
