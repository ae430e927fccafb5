/** What a user may set; changed while the server runs. */

export type Settings = {
  /** False: nothing is sent at all. */
  enabled: boolean;
  /** Language id -> whether it is completed in; "*" stands for those that are not named. */
  languages: Readonly<Record<string, boolean>>;
  /** False: suggestions only on request. */
  automatic: boolean;
  /** Served name; "" = the only one. */
  model: string;
  multiLine: 'auto' | 'always' | 'never';
  /** 1..1024 */
  maxTokens: number;
  /** How long an automatic request may take until it shows what it has, 50..60000. */
  softDeadlineMs: number;
  /** How long it may take at all, at least the soft deadline, at most 120000. */
  hardDeadlineMs: number;
  /** Whether other files of the workspace go beside the prompt. */
  crossFile: boolean;
  /** Whether the follow-up of a suggestion is asked for while it is shown. */
  speculate: boolean;
  /** Whether the mesh is told what became of suggestions. */
  reportEvents: boolean;
  /** Whether the mesh reads ahead what the next prompt begins with, while nobody types. */
  warm: boolean;
};

export const defaultSettings: Settings = {
  enabled: true,
  languages: { '*': true },
  automatic: true,
  model: '',
  multiLine: 'auto',
  maxTokens: 64,
  softDeadlineMs: 1_000,
  hardDeadlineMs: 10_000,
  crossFile: true,
  speculate: true,
  reportEvents: true,
  warm: true,
};

export type SettingsVerdict = { settings: Settings; problems: string[] };

type Flag = 'enabled' | 'automatic' | 'crossFile' | 'speculate' | 'reportEvents' | 'warm';

const MULTI_LINE = ['auto', 'always', 'never'] as const;

/** `base` with what `given` sets. What cannot be is left as it was and named in `problems`. */
export function readSettings(given: unknown, base: Settings = defaultSettings): SettingsVerdict {
  const problems: string[] = [];
  const fields = isRecord(given) ? given : {};
  if (given !== undefined && given !== null && !isRecord(given))
    problems.push(expected('settings', 'an object', given));
  const flag = (name: Flag): boolean => {
    const value = fields[name];
    if (value === undefined || value === null) return base[name];
    if (typeof value === 'boolean') return value;
    problems.push(expected(name, 'true or false', value));
    return base[name];
  };
  const number = (name: 'maxTokens' | 'softDeadlineMs' | 'hardDeadlineMs', min: number, max: number): number => {
    const value = fields[name];
    if (value === undefined || value === null) return base[name];
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    problems.push(expected(name, `a whole number from ${min} to ${max}`, value));
    return base[name];
  };
  const softDeadlineMs = number('softDeadlineMs', 50, 60_000);
  const settings: Settings = {
    enabled: flag('enabled'),
    languages: readLanguages(fields.languages, base.languages, problems),
    automatic: flag('automatic'),
    model: readModel(fields.model, base.model, problems),
    multiLine: readMultiLine(fields.multiLine, base.multiLine, problems),
    maxTokens: number('maxTokens', 1, 1024),
    softDeadlineMs,
    hardDeadlineMs: Math.max(softDeadlineMs, number('hardDeadlineMs', 50, 120_000)),
    crossFile: flag('crossFile'),
    speculate: flag('speculate'),
    reportEvents: flag('reportEvents'),
    warm: flag('warm'),
  };
  return { settings, problems };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const expected = (name: string, what: string, got: unknown): string =>
  `${name}: expected ${what}, got ${JSON.stringify(got)?.slice(0, 80)}; it stays as it was`;

function readLanguages(value: unknown, base: Settings['languages'], problems: string[]): Settings['languages'] {
  if (value === undefined || value === null) return base;
  if (isRecord(value) && Object.values(value).every((flag) => typeof flag === 'boolean')) {
    return { ...defaultSettings.languages, ...(value as Record<string, boolean>) };
  }
  problems.push(expected('languages', 'an object of language ids with true or false', value));
  return base;
}

function readModel(value: unknown, base: string, problems: string[]): string {
  if (value === undefined || value === null) return base;
  if (typeof value === 'string' && value.length <= 128) return value;
  problems.push(expected('model', 'a name of at most 128 characters', value));
  return base;
}

function readMultiLine(value: unknown, base: Settings['multiLine'], problems: string[]): Settings['multiLine'] {
  if (value === undefined || value === null) return base;
  const found = MULTI_LINE.find((one) => one === value);
  if (found === undefined) problems.push(expected('multiLine', 'auto, always or never', value));
  return found ?? base;
}

/** Whether anything may be sent for a document of this language. */
export function languageEnabled(settings: Settings, languageId: string): boolean {
  const { languages } = settings;
  return settings.enabled && ((Object.hasOwn(languages, languageId) ? languages[languageId] : languages['*']) ?? true);
}
