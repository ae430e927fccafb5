// Neovim, as an editor that the end-to-end tests drive: the distribution's package, without its optional parts.
import { installPrograms } from './apt-programs.mjs';

export const installNeovim = () => installPrograms({ neovim: 'nvim' });
