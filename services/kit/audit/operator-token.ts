// Who may look into the audit log: the token of its operators, apart from the one by which the services of a mesh know one
// another. The audit service and `quern audit` read the same variables.
import { type EnvSpec, str, type ValuesOf } from '#kit/env.ts';
import { secretFile, TOKEN, TOKEN_EXPECTED } from '#kit/env-files.ts';

export const operatorEnv = {
  operatorToken: str('QUERN_AUDIT_OPERATOR_TOKEN', {
    doc: "Token of who may read, export, verify and erase in the audit log; a service's token may not",
    default: null,
    secret: true,
    pattern: TOKEN,
    expected: TOKEN_EXPECTED,
  }),
  operatorTokenFile: secretFile('QUERN_AUDIT_OPERATOR_TOKEN_FILE', { doc: 'File that holds it', isToken: true }),
} satisfies EnvSpec;

type Values = ValuesOf<typeof operatorEnv>;

/** The token of the variable goes before that of the file; null: none is set. */
export function operatorTokenOf({ operatorToken, operatorTokenFile }: Partial<Values>): string | null {
  return operatorToken ?? operatorTokenFile?.secret ?? null;
}

/** For the `check` of readEnv: a token that every service has sets nobody apart. */
export function operatorProblems(values: Partial<Values>, meshToken: string | null): string[] {
  const token = operatorTokenOf(values);
  if (token === null || token !== meshToken) return [];
  return [
    'QUERN_AUDIT_OPERATOR_TOKEN: expected another token than QUERN_INTERNAL_TOKEN, which every service has, got the same; ' +
      'make one of its own',
  ];
}
