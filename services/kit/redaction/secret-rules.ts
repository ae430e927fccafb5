// Rules for credentials: by the prefix that a provider gives its keys, and by the name that a value is assigned to.
import {
  isBasicCredential,
  isChosenWord,
  isLiteralSecret,
  isPassword,
  isPlaceholder,
  isProviderKey,
  isRandomWord,
} from './plausible.ts';
import type { RedactionForm, RedactionRule } from './rules.ts';

/** Prefixes that the providers publish so that scanners can find their keys. */
const CLOUD_KEYS = [
  '(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}', // Amazon
  'AIza[\\w-]{35}', // Google
  'ya29\\.[\\w-]{20,}',
  'GOCSPX-[\\w-]{20,}',
  'gh[pousr]_[A-Za-z0-9]{36,}', // GitHub
  'github_pat_[A-Za-z0-9_]{40,}',
  'gl(?:pat|dt|rt|ft|oas|ptt|cbt|soat|imt|agent)-[\\w-]{20,}', // GitLab
  'GR1348941[\\w-]{20}',
  'xox[abeoprs]-[\\w-]{10,}', // Slack
  'xapp-\\d-[\\w-]{20,}',
  '[sr]k_(?:live|test)_[A-Za-z0-9]{16,}', // Stripe
  'whsec_[A-Za-z0-9+/]{24,}={0,2}',
  'sk-(?:ant-|proj-|svcacct-)?[\\w-]{20,}', // OpenAI, Anthropic
  'hf_[A-Za-z0-9]{30,}', // Hugging Face
  'npm_[A-Za-z0-9]{36}',
  'pypi-[\\w-]{50,}',
  'dckr_[po]at_[\\w-]{20,}', // Docker
  'cio[A-Za-z0-9]{32}(?!\\w)', // crates.io
  'SG\\.[\\w-]{16,}\\.[\\w-]{16,}', // SendGrid
  'SK[0-9a-f]{32}(?!\\w)', // Twilio
  'do[opr]_v1_[0-9a-f]{64}', // DigitalOcean
  'shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}', // Shopify
  'dapi[0-9a-f]{32}', // Databricks
  'hv[sbr]\\.[\\w-]{20,}', // Vault
  'glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}', // Grafana
  'glc_[A-Za-z0-9+/]{32,}={0,2}',
  'lin_(?:api|oauth)_[A-Za-z0-9]{32,}', // Linear
  'NRAK-[A-Z0-9]{27}', // New Relic
  'EAA[A-Za-z0-9]{60,}', // Meta
  'ATATT3[\\w=-]{60,}', // Atlassian
  'qk_[\\w-]{20,}', // ours
] as const;

const OTHER_KEYS = [
  '(?:AccountKey|SharedAccessKey)=(?<secret>[A-Za-z0-9+/]{40,}={0,2})', // Azure
  '[?&;]sig=(?<secret>[A-Za-z0-9%+/]{40,}={0,2})',
  '(?<![\\w~.-])(?<secret>[\\w-]{3}\\dQ~[\\w~.-]{31,37})',
  '(?<secret>https://hooks\\.slack(?:-gov)?\\.com/(?:services|workflows|triggers)/[\\w/]{20,})',
  '(?<secret>https://(?:\\w+\\.)?discord(?:app)?\\.com/api/webhooks/\\d+/[\\w-]{40,})',
  '(?:(?<=bot)|(?<![\\w-]))(?<secret>\\d{8,10}:AA[\\w-]{32,34})(?![\\w-])', // Telegram
];

const PASSWORD = [
  'pass(?:word|wd|phrase|code)',
  'passwor[td]',
  'kennwort',
  'pwd',
  'mot[ _-]de[ _-]passe',
  'contrase(?:ñ|n)a',
  'senha',
  'wachtwoord',
  'has[łl]o',
  'пароль',
  '密[码碼]',
  '口令',
  'パスワード',
  '비밀번호',
  '(?-i:(?<![A-Za-z])(?:[Pp]ass|[Pp]w|PASS|PW)|(?<=[a-z])(?:Pass|Pw))',
].join('|');
const KEY = [
  'secret',
  'token',
  '(?:api|app|access|private|encryption|signing|master|session|auth|account|license|storage)[_-]?key',
  'credentials?',
].join('|');
const SUFFIX = '(?:[_-]?(?:key|base|value|token)){0,2}\\d{0,2}';
/** The end of the name when it is quoted, indexed or typed, and what assigns. */
const ASSIGN = `\\\\{0,2}["'\`]?[\\])]?\\s{0,4}(?::\\s?[A-Za-z]\\w{0,20}\\s{0,2}(?==))?(?::=|=>|=|[:：])\\s{0,8}`;
const QUOTED = `\\\\{0,2}(?<quote>["'\`])(?<secret>(?:(?!\\k<quote>)[^\\s\\\\]){4,256})\\\\{0,2}\\k<quote>`;
/** Taken whole or not at all: a call or an index after it makes it code. */
const UNQUOTED = `(?-i:(?=(?<secret>[^\\s"'\`,;&<>(){}\\[\\]，。；、]{4,256}))\\k<secret>)(?![({\\[])`;
const VERB = '(?: (?:is|was|ist|lautet|war|est|es|é|jest|to|это|=) | ?[:：] ?| |(?:是|为|為|は|는|은) ?)';
/** Chinese, Japanese and Korean go without; then the value is of other letters. */
const LINK = `(?:${VERB}|(?<=[\\u3040-\\u30ff\\u4e00-\\u9fff\\uac00-\\ud7a3])(?=[!-~]))`;
/** Said before a name and a password in one breath, and called with both. */
const LOGIN = '(?:credentials?|creds|login|logindaten|zugangsdaten|anmeldedaten|identifiants|账号|帐号)';
const LOGIN_CALL = '\\b(?:login|auth|basic_auth|authenticate|getConnection|createConnection|NetworkCredential|PDO)';

const rule = (name: string, pattern: string, accepts?: RedactionRule['accepts'], flags = 'gi'): RedactionRule => ({
  name,
  pattern: new RegExp(pattern, flags),
  ...(accepts ? { accepts } : {}),
});

/** Full stops and the like that end the sentence, not the value. */
const trimmed = (text: string): string => text.replace(/[.!?:]+$/, '');

/** What follows a name and makes what comes next its value. `isValue`: what the name may hold where the form is plain. */
const formsOf = (isValue: (text: string) => boolean): readonly RedactionForm[] =>
  (
    [
      [ASSIGN + QUOTED, isValue],
      [`["'],\\s{0,4}${QUOTED}`, isLiteralSecret],
      [`\\(\\s?${QUOTED}`, isLiteralSecret],
      [`["']\\s{1,4}value\\s?=\\s?${QUOTED}`, isValue],
      ['\\s?>\\s?(?<secret>[^<\\s]{4,256})</', isValue],
      [`=${UNQUOTED}`, (text) => isValue(trimmed(text))],
      [ASSIGN + UNQUOTED, (text) => isLiteralSecret(trimmed(text))],
      [`${LINK}["'\`]?${UNQUOTED}`, (text) => isRandomWord(trimmed(text))],
    ] as const satisfies [string, (text: string) => boolean][]
  ).map(([pattern, accepts]) => ({ pattern: new RegExp(pattern, 'iy'), accepts }));

/** A password that is said some words after it was named. */
const CHOSEN: RedactionForm = {
  pattern: new RegExp(`(?: [^\\s\\d]{1,16}){1,6} ["'\`]?${UNQUOTED}`, 'iy'),
  accepts: (text) => isChosenWord(trimmed(text)),
};

export const secretRules: readonly RedactionRule[] = [
  {
    name: 'pem',
    pattern:
      /-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----)){0,20000}(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?/g,
  },
  { name: 'jwt', pattern: /(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}/g },
  rule('cloud_key', `(?<![\\w-])(?:${CLOUD_KEYS.join('|')})`, isProviderKey, 'g'),
  ...OTHER_KEYS.map((pattern) => rule('cloud_key', pattern, isProviderKey, 'g')),
  rule(
    'url_password',
    `\\b[a-z][a-z0-9+.-]{1,20}:\\/\\/[^\\s:/@"']{0,64}:(?<secret>[^\\s/@"']{1,128})@`,
    (text) => !isPlaceholder(text),
  ),
  rule('bearer', '\\b(?:Bearer|Token) +(?<secret>[\\w.~+/-]{16,}=*)', isLiteralSecret, 'g'),
  rule('basic', '\\bBasic +(?<secret>[A-Za-z0-9+/]{8,}={0,2})', isBasicCredential, 'g'),
  { ...rule('secret_value', `(?:${PASSWORD})${SUFFIX}`), forms: [...formsOf(isPassword), CHOSEN] },
  { ...rule('secret_value', `(?:${KEY})${SUFFIX}`), forms: formsOf(isLiteralSecret) },
  rule('secret_value', `${LOGIN}[ :：=]{1,3}[\\w.@-]{1,64} ?[:/] ?${UNQUOTED}`, (text) => isRandomWord(trimmed(text))),
  rule('secret_value', `${LOGIN_CALL}\\s?=?\\s?\\([^()\\n]{0,120}?,\\s?(?:Some\\()?${QUOTED}\\s?\\)`, isLiteralSecret),
  rule(
    'secret_value',
    `^[\\w.*-]{1,128}:(?:\\d{1,5}|\\*):[\\w*-]{1,64}:[\\w.@-]{1,64}:(?<secret>\\S{4,128})$`,
    isLiteralSecret,
    'gm',
  ),
  rule('secret_value', `\\bidentified by ${QUOTED}`, isPassword),
  rule('secret_value', `\\s(?:-u|--user)[ =]["']?[\\w.@-]{1,64}:(?<secret>[^\\s"'$:]{4,128})`, isLiteralSecret, 'g'),
  rule(
    'secret_value',
    `\\b(?:sshpass -p|redis-cli(?: -[hpn] \\S{1,64}){0,3} -a) ?["']?(?<secret>[^\\s"']{4,128})`,
    isPassword,
    'g',
  ),
  rule('secret_value', `\\blogin\\b[^\\n|;]{0,160}? -p[ =]?["']?(?<secret>[^\\s"']{6,128})`, isLiteralSecret, 'g'),
  rule(
    'secret_value',
    `\\becho ["'][\\w.@-]{1,64}:(?<secret>[^\\s"']{4,128})["'] ?\\| ?(?:sudo )?chpasswd`,
    isPassword,
    'g',
  ),
  rule('secret_value', `\\bmysql(?:dump|admin)?\\b[^\\n|;]{0,120}? -p(?<secret>[^\\s"']{6,64})`, isLiteralSecret, 'g'),
];
