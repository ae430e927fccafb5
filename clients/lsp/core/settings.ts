/** What a user may set; changed while the server runs. */
import { isWithinEdits } from './filters/edit-distance.ts';

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

/** What is read elsewhere: where the mesh is, by who opens it, and what the server and its extension for VS Code read. */
const OTHER_NAMES = ['gateway', 'apiKey', 'caFile', 'gatewayUrl', 'outcomes', 'serverCommand', 'traceUrl'] as const;

export const settingNames: readonly string[] = [...Object.keys(defaultSettings), ...OTHER_NAMES];

type Flag = 'enabled' | 'automatic' | 'crossFile' | 'speculate' | 'reportEvents' | 'warm';

const MULTI_LINE = ['auto', 'always', 'never'] as const;

/**
 * `base` with what `given` sets. What cannot be is named in `problems` and has the value of `kept`, which was in force before; but
 * who wrote something into `enabled` or `languages` that cannot be wanted less sent, not more: nothing is.
 */
export function readSettings(given: unknown, base: Settings = defaultSettings, kept: Settings = base): SettingsVerdict {
  const problems: string[] = [];
  if (given !== undefined && given !== null && !isRecord(given))
    return { settings: kept, problems: [expected('settings', 'an object', given, 'all stay as they were')] };
  const fields = given ?? {};
  const flag = (name: Flag): boolean => {
    const value = fields[name];
    if (value === undefined || value === null) return base[name];
    if (typeof value === 'boolean') return value;
    const isOff = name === 'enabled';
    problems.push(expected(name, 'true or false', value, isOff ? NOTHING_SENT : stays(kept[name])));
    return !isOff && kept[name];
  };
  const number = (name: 'maxTokens' | 'softDeadlineMs' | 'hardDeadlineMs', min: number, max: number): number => {
    const value = fields[name];
    if (value === undefined || value === null) return base[name];
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    problems.push(expected(name, `a whole number from ${min} to ${max}`, value, stays(kept[name])));
    return kept[name];
  };
  const softDeadlineMs = number('softDeadlineMs', 50, 60_000);
  const settings: Settings = {
    enabled: flag('enabled'),
    languages: readLanguages(fields.languages, base.languages, problems),
    automatic: flag('automatic'),
    model: readModel(fields.model, { base: base.model, kept: kept.model }, problems),
    multiLine: readMultiLine(fields.multiLine, { base: base.multiLine, kept: kept.multiLine }, problems),
    maxTokens: number('maxTokens', 1, 1024),
    softDeadlineMs,
    hardDeadlineMs: Math.max(softDeadlineMs, number('hardDeadlineMs', 50, 120_000)),
    crossFile: flag('crossFile'),
    speculate: flag('speculate'),
    reportEvents: flag('reportEvents'),
    warm: flag('warm'),
  };
  return { settings, problems: [...problems, ...unknownNames(fields)] };
}

/** A name that means nothing is most likely another one, misspelt. */
function unknownNames(fields: Record<string, unknown>): string[] {
  return Object.keys(fields)
    .filter((name) => !settingNames.includes(name))
    .map((name) => {
      const nearest = nearestName(name);
      const hint = nearest ? `did you mean ${nearest}?` : `there are ${settingNames.join(', ')};`;
      return `${name.slice(0, NAME_CHARS_SHOWN)}: there is no such setting; ${hint} it is passed over`;
    });
}

const NAME_CHARS_SHOWN = 80;

/** Case, section and the signs between words aside; null where more than every third letter would have to change. */
function nearestName(name: string): string | null {
  const plain = (text: string): string =>
    text
      .toLowerCase()
      .replace(/^quern\./, '')
      .replace(/[^a-z]/g, '');
  const wanted = plain(name.slice(0, NAME_CHARS_SHOWN));
  for (let edits = 0; edits <= wanted.length / 3; edits++) {
    const found = settingNames.find((one) => isWithinEdits(wanted, plain(one), edits));
    if (found) return found;
  }
  return null;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const NOTHING_SENT = 'nothing is sent until that is right';

const stays = (value: unknown): string => `it stays ${JSON.stringify(value)}`;

const expected = (name: string, what: string, got: unknown, then: string): string =>
  `${name}: expected ${what}, got ${JSON.stringify(got)?.slice(0, 80)}; ${then}`;

function readLanguages(value: unknown, base: Settings['languages'], problems: string[]): Settings['languages'] {
  if (value === undefined || value === null) return base;
  if (isRecord(value) && Object.values(value).every((flag) => typeof flag === 'boolean')) {
    return { ...defaultSettings.languages, ...(value as Record<string, boolean>) };
  }
  problems.push(expected('languages', 'an object of language ids with true or false', value, NOTHING_SENT));
  return { '*': false };
}

type Earlier<T> = { base: T; kept: T };

function readModel(value: unknown, { base, kept }: Earlier<string>, problems: string[]): string {
  if (value === undefined || value === null) return base;
  if (typeof value === 'string' && value.length <= 128) return value;
  problems.push(expected('model', 'a name of at most 128 characters', value, stays(kept)));
  return kept;
}

function readMultiLine(
  value: unknown,
  { base, kept }: Earlier<Settings['multiLine']>,
  problems: string[],
): Settings['multiLine'] {
  if (value === undefined || value === null) return base;
  const found = MULTI_LINE.find((one) => one === value);
  if (found === undefined) problems.push(expected('multiLine', 'auto, always or never', value, stays(kept)));
  return found ?? kept;
}

/** Whether anything may be sent for a document of this language. */
export function languageEnabled(settings: Settings, languageId: string): boolean {
  const { languages } = settings;
  return settings.enabled && ((Object.hasOwn(languages, languageId) ? languages[languageId] : languages['*']) ?? true);
}
