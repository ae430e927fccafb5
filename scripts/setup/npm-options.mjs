// Options that npm took for itself. `npm start --grpc X` without a bare "--" reaches Quern as X alone, `--grpc=X` not at all; npm leaves
// what it took in the environment. What npm has options of its own for (--no-audit, --json, --verbose) cannot be told from those.
import { SetupError } from './steps.mjs';

/** Options of `quern up` with what stands behind them; "" = nothing. */
const OPTIONS = {
  http: 'HOST:PORT',
  grpc: 'HOST:PORT',
  model: 'DIR',
  threads: 'N',
  dtype: 'bf16',
  'context-length': 'N',
  nats: 'URL',
  'no-tools': '',
  'no-traces': '',
};

/** No proxy, which is a URL: npm reads --http as the beginning of --https-proxy. */
const LISTENS = /^(?:(?:localhost|[\d.]+|\[[\da-f:.]+\])?:)?\d+$/i;

function leftBy(name, env) {
  const value = env[`npm_config_${name.replace(/^no-/, '').replaceAll('-', '_')}`];
  const proxy = env.npm_config_https_proxy ?? '';
  return value === undefined && name === 'http' && LISTENS.test(proxy) ? proxy : value;
}

/** "--http 127.0.0.1:8001", as it is to be typed; null: npm did not take it. npm writes "true" for a value that it passed on. */
function taken(name, placeholder, env) {
  const value = leftBy(name, env);
  if (value === undefined) return null;
  if (placeholder === '') return value === '' ? `--${name}` : null;
  const given = value === 'true' || value === '' ? placeholder : value;
  return `--${name} ${/^[\w@%+=:,./[\]-]+$/.test(given) ? given : `'${given.replaceAll("'", "'\\''")}'`}`;
}

/** Throws a SetupError that says what to type. Of other programs' calls nothing is said. */
export function refuseTakenOptions(env = process.env) {
  if (env.npm_lifecycle_event !== 'prestart') return;
  const options = Object.entries(OPTIONS).flatMap(([name, placeholder]) => taken(name, placeholder, env) ?? []);
  if (options.length === 0) return;
  const names = options.map((option) => option.split(' ')[0]).join(' and ');
  const proxy = env.npm_config_https_proxy;
  const isProxy = options.some((option) => option === `--http ${proxy}`);
  throw new SetupError(
    `npm took ${names} for itself: options for Quern stand behind a bare "--". Type: npm start -- ${options.join(' ')}` +
      (isProxy ? `\n(npm's https-proxy is ${proxy} now; if that is yours, write it as a URL: http://${proxy})` : ''),
  );
}
