// The fill-in-the-middle formats of model families: which control tokens, in which order, how files of the repository are
// put in front, and where generation has to stop. Which family a model has is told by quern.json or by its tokens,
// never by its name. Sources: the families' papers and model cards.

export type InfillPart =
  | { readonly kind: 'bos' | 'prefix' | 'suffix' }
  /** A control token, by its literal. */
  | { readonly kind: 'token'; readonly literal: string }
  /** Text of the format with what the caller named (paths), no control token in it. */
  | { readonly kind: 'text'; readonly text: string }
  /** One file of the repository: kept or dropped whole. */
  | { readonly kind: 'chunk'; readonly parts: readonly InfillPart[] };

export type InfillNames = {
  readonly repository: string;
  /** Of the file that is edited. */
  readonly path: string;
  readonly chunks: readonly { readonly path: string; readonly text: string }[];
  /** Whether the model has an optional token. */
  has(literal: string): boolean;
};

export type FimFamily = {
  readonly name: string;
  /** psm: prefix, suffix, middle. spm: suffix first. */
  readonly order: 'psm' | 'spm';
  /** Literals that must each be one id. A model that has all of them may have this family. */
  readonly required: readonly string[];
  /** Used when the model has them. */
  readonly optional: readonly string[];
  /** Literals whose ids end a completion; those that the model lacks are left out. */
  readonly stops: readonly string[];
  /** Literals that leak as text. */
  readonly stopStrings: readonly string[];
  /** Never chosen by tokens alone, only by quern.json: its tokens are those of another family. */
  readonly onlyByName?: boolean;
  layout(names: InfillNames): InfillPart[];
};

const PREFIX: InfillPart = { kind: 'prefix' };
const SUFFIX: InfillPart = { kind: 'suffix' };
const BOS: InfillPart = { kind: 'bos' };
const token = (literal: string): InfillPart => ({ kind: 'token', literal });
const text = (value: string): InfillPart => ({ kind: 'text', text: value });
const chunk = (...parts: InfillPart[]): InfillPart => ({ kind: 'chunk', parts });
const endsLine = (value: string): string => (value.endsWith('\n') ? value : `${value}\n`);

/** [prefix] P [suffix] S [middle] */
const psm = (prefix: string, suffix: string, middle: string): InfillPart[] => [
  token(prefix),
  PREFIX,
  token(suffix),
  SUFFIX,
  token(middle),
];

/** Files as text in front of the prefix, each under a comment with its path, for families without a repository form. */
function commented({ chunks, path }: InfillNames, mark: string): InfillPart[] {
  if (chunks.length === 0) return [];
  const files = chunks.map((one) => chunk(text(`${mark}${one.path}\n${endsLine(one.text)}`)));
  return [...files, text(`${mark}${path}\n`)];
}

const QWEN = ['<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>'] as const;
const QWEN_STOPS = [
  '<|endoftext|>',
  ...QWEN,
  '<|fim_pad|>',
  '<|repo_name|>',
  '<|file_sep|>',
  '<|im_start|>',
  '<|im_end|>',
];

function qwenLayout({ repository, path, chunks }: InfillNames, fim = psm(...QWEN)): InfillPart[] {
  if (chunks.length === 0) return fim;
  return [
    token('<|repo_name|>'),
    text(`${repository}\n`),
    ...chunks.map((one) => chunk(token('<|file_sep|>'), text(`${one.path}\n${endsLine(one.text)}`))),
    token('<|file_sep|>'),
    text(`${path}\n`),
    ...fim,
  ];
}

const qwen25Coder: FimFamily = {
  name: 'qwen2.5-coder',
  order: 'psm',
  required: [...QWEN, '<|repo_name|>', '<|file_sep|>'],
  optional: [],
  stops: QWEN_STOPS,
  stopStrings: ['<|cursor|>'],
  layout: (names) => qwenLayout(names),
};

/**
 * The same tokens with the suffix first, [prefix] [suffix] S [middle] P, so that the answer goes on exactly where the prefix
 * ends (Bavarian et al. 2022, section 3: "SPM" as one sequence with the joint tokens). For models trained on it.
 */
const qwen25CoderSpm: FimFamily = {
  ...qwen25Coder,
  name: 'qwen2.5-coder-spm',
  order: 'spm',
  onlyByName: true,
  layout: (names) => qwenLayout(names, [token(QWEN[0]), token(QWEN[1]), SUFFIX, token(QWEN[2]), PREFIX]),
};

/** The same prompt as a user turn: what Qwen3-Coder's instruct models were trained on. */
const qwen3Coder: FimFamily = {
  ...qwen25Coder,
  name: 'qwen3-coder',
  required: [...qwen25Coder.required, '<|im_start|>', '<|im_end|>'],
  onlyByName: true,
  layout: (names) => [
    token('<|im_start|>'),
    text('system\nYou are a code completion assistant.'),
    token('<|im_end|>'),
    text('\n'),
    token('<|im_start|>'),
    text('user\n'),
    ...qwenLayout(names),
    token('<|im_end|>'),
    text('\n'),
    token('<|im_start|>'),
    text('assistant\n'),
  ],
};

const codeGemma: FimFamily = {
  name: 'codegemma',
  order: 'psm',
  required: [...QWEN, '<|file_separator|>'],
  optional: [],
  stops: ['<|file_separator|>', ...QWEN, '<eos>', '<end_of_turn>'],
  stopStrings: [],
  layout({ path, chunks }) {
    const files = chunks.map((one) => chunk(text(`${one.path}\n${one.text}`), token('<|file_separator|>')));
    return [BOS, ...files, ...(chunks.length > 0 ? [text(`${path}\n`)] : []), ...psm(...QWEN)];
  },
};

const granite: FimFamily = {
  name: 'granite',
  order: 'psm',
  required: QWEN,
  optional: ['<|filename|>', '<|reponame|>'],
  stops: ['<|end_of_text|>', '<|endoftext|>', ...QWEN, '<|fim_pad|>', '<|filename|>', '<|reponame|>'],
  stopStrings: [],
  layout(names) {
    const fim = psm(...QWEN);
    if (!names.has('<|filename|>')) return [BOS, ...commented(names, '# '), ...fim];
    return [BOS, ...namedFiles(names, '<|reponame|>', '<|filename|>'), ...fim];
  },
};

/** [reponame]R[filename]path\ncode...[filename]cur\n, the form of StarCoder's and Granite's training data. */
function namedFiles(names: InfillNames, repositoryToken: string, fileToken: string): InfillPart[] {
  if (names.chunks.length === 0) return [];
  return [
    ...(names.has(repositoryToken) ? [token(repositoryToken), text(names.repository)] : []),
    ...names.chunks.map((one) => chunk(token(fileToken), text(`${one.path}\n${endsLine(one.text)}`))),
    token(fileToken),
    text(`${names.path}\n`),
  ];
}

const STARCODER = ['<fim_prefix>', '<fim_suffix>', '<fim_middle>'] as const;

const starCoder2: FimFamily = {
  name: 'starcoder2',
  order: 'psm',
  required: [...STARCODER, '<repo_name>', '<file_sep>'],
  optional: [],
  stops: ['<|endoftext|>', '<file_sep>', '<repo_name>', ...STARCODER, '<fim_pad>'],
  stopStrings: [],
  layout({ repository, path, chunks }) {
    const fim = psm(...STARCODER);
    if (chunks.length === 0) return fim;
    return [
      token('<repo_name>'),
      text(`${repository}\n`),
      ...chunks.map((one) => chunk(token('<file_sep>'), text(`${one.path}\n${one.text}`))),
      token('<file_sep>'),
      text(`${path}\n`),
      ...fim,
    ];
  },
};

/** Granite code models of 2024 use StarCoder's tokenizer and its file marks. */
const graniteCode: FimFamily = {
  name: 'granite-code',
  order: 'psm',
  required: STARCODER,
  optional: ['<filename>', '<reponame>'],
  stops: ['<|endoftext|>', ...STARCODER, '<fim_pad>', '<filename>', '<reponame>'],
  stopStrings: ['</code>'],
  layout(names) {
    const fim = psm(...STARCODER);
    return names.has('<filename>')
      ? [...namedFiles(names, '<reponame>', '<filename>'), ...fim]
      : [...commented(names, '# '), ...fim];
  },
};

/** Bars are U+FF5C and low blanks U+2581; with ASCII bars the model answers as in a chat. */
const DEEPSEEK = ['<｜fim▁begin｜>', '<｜fim▁hole｜>', '<｜fim▁end｜>'] as const;

const deepSeekCoder: FimFamily = {
  name: 'deepseek-coder',
  order: 'psm',
  required: DEEPSEEK,
  optional: [],
  stops: ['<｜end▁of▁sentence｜>', ...DEEPSEEK, '<|EOT|>'],
  stopStrings: [],
  layout: (names) => [
    BOS,
    token(DEEPSEEK[0]),
    ...commented(names, '#'),
    PREFIX,
    token(DEEPSEEK[1]),
    SUFFIX,
    token(DEEPSEEK[2]),
  ],
};

const CODE_LLAMA = ['▁<PRE>', '▁<SUF>', '▁<MID>'] as const;

const codeLlama: FimFamily = {
  name: 'codellama',
  order: 'psm',
  required: CODE_LLAMA,
  optional: ['▁<EOT>'],
  stops: ['▁<EOT>', '</s>', ...CODE_LLAMA],
  stopStrings: ['<EOT>'],
  layout: (names) => [
    BOS,
    token(CODE_LLAMA[0]),
    ...commented(names, '# '),
    PREFIX,
    token(CODE_LLAMA[1]),
    SUFFIX,
    token(CODE_LLAMA[2]),
  ],
};

const codestral: FimFamily = {
  name: 'codestral',
  order: 'spm',
  required: ['[SUFFIX]', '[PREFIX]'],
  optional: [],
  stops: ['</s>', '[PREFIX]', '[SUFFIX]', '[MIDDLE]'],
  stopStrings: ['\n+++++ '],
  layout({ path, chunks }) {
    const files = chunks.map((one) => chunk(text(`+++++ ${one.path}\n${endsLine(one.text)}\n`)));
    const current = chunks.length > 0 ? [...files, text(`+++++ ${path}\n`)] : [];
    return [BOS, token('[SUFFIX]'), SUFFIX, token('[PREFIX]'), ...current, PREFIX];
  },
};

/** In the order in which they are tried: families with more required tokens before those whose tokens they share. */
export const FIM_FAMILIES: readonly FimFamily[] = [
  qwen25Coder,
  qwen25CoderSpm,
  qwen3Coder,
  codeGemma,
  granite,
  starCoder2,
  graniteCode,
  deepSeekCoder,
  codeLlama,
  codestral,
];

/** Every literal that is a mark of some FIM or repository format: what PARSE_SPECIAL_FIM lets through. */
export const FIM_LITERALS: ReadonlySet<string> = new Set([
  ...FIM_FAMILIES.filter((family) => family.onlyByName !== true).flatMap((family) => [
    ...family.required,
    ...family.optional,
  ]),
  '<|fim_pad|>',
  '<fim_pad>',
  '[MIDDLE]',
]);
