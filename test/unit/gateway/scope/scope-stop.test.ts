import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readContext } from '../../../../services/gateway/scope/scope-context.ts';
import { type ScopeKind, ScopeStop } from '../../../../services/gateway/scope/scope-stop.ts';

type Case = {
  name: string;
  path: string;
  kind: ScopeKind;
  /** The cursor is the bar. */
  code: string;
  /** What the model writes; the bar is where it has to end. */
  output: string;
};

const CASES: readonly Case[] = [
  {
    name: 'python: a block ends before a line that is indented less',
    path: 'a.py',
    kind: 'block',
    code: 'def f(x):\n    |\n\ndef g():\n    pass\n',
    output: 'y = x + 1\n    return y|\n\ndef h():\n    pass',
  },
  {
    name: 'python: the body of what the line begins, with its else',
    path: 'a.py',
    kind: 'statement',
    code: 'def f(x):\n    if x|\n',
    output: ':\n        return 1\n    else:\n        return 2|\n    return 3\n',
  },
  {
    name: 'python: a call over several lines is one statement, whatever its lines are indented by',
    path: 'a.py',
    kind: 'statement',
    code: 'def f():\n    x = call(|\n',
    output: '\n  a,\nb,\n    )|\n    y = 2',
  },
  {
    name: 'python: brackets in strings and comments are none',
    path: 'a.py',
    kind: 'block',
    code: 'def f():\n    |\n',
    output: `a = ")]}"  # ) also here\n    b = """\n}\nx)\n"""\n    c = ''|\nd = 1`,
  },
  {
    name: 'python: an empty string right before a bracket',
    path: 'a.py',
    kind: 'statement',
    code: 'print(f(|))\n',
    output: '""|))',
  },
  {
    name: 'python: one definition at the top level, not the next',
    path: 'a.py',
    kind: 'block',
    code: 'import os\n\n|\n',
    output: 'def f():\n    return 1|\n\n\ndef g():\n    return 2',
  },
  {
    name: 'python: except and finally belong to try at the top level too',
    path: 'a.py',
    kind: 'block',
    code: '|',
    output: 'try:\n    a()\nexcept E:\n    b()\nfinally:\n    c()|\nd()',
  },
  {
    name: 'python: a word that only begins like a continuation ends it',
    path: 'a.py',
    kind: 'statement',
    code: 'if a|',
    output: ':\n    b()|\nelsewhere = 1',
  },
  {
    name: 'python: simple statements at the top level go on, over blank lines too',
    path: 'a.py',
    kind: 'block',
    code: '|',
    output: 'a = 1\n\nb = 2\n',
  },
  {
    name: 'python: a decorator and what it stands above',
    path: 'a.py',
    kind: 'statement',
    code: 'class A:\n    @prop|\n',
    output: 'erty\n    def f(self):\n        return 1|\n    def g(self):\n',
  },
  {
    name: 'the cursor behind a whole line: the next ones',
    path: 'a.py',
    kind: 'statement',
    code: 'def f():\n    a = 1|\n',
    output: '\n    b = 2\n    c = 3|\nd = 4',
  },
  {
    name: 'the line that follows anyway is not written again',
    path: 'a.py',
    kind: 'block',
    code: 'def f():\n    |\n    return total\n',
    output: 'total = 0\n    for x in xs:\n        total += x|\n    return total\n',
  },
  {
    name: 'nor where the text ends with it, which is an end of the scope as well',
    path: 'a.py',
    kind: 'block',
    code: 'def f():\n    |\n    return total\n',
    output: 'total = 0|\n\n    return total',
  },
  {
    name: 'a line that is out of it when the text ends, ends it too',
    path: 'a.py',
    kind: 'statement',
    code: 'if a|\nelsewhere = 1\n',
    output: ':\n    b()|\nelsewhere =',
  },
  {
    name: 'a line that goes on where the next one ends is another',
    path: 'a.py',
    kind: 'block',
    code: 'def f():\n    |\n    return total\n',
    output: 'a = 1\n    return total + 1|\nx',
  },
  {
    name: 'typescript: ends before the brace that the suffix has',
    path: 'a.ts',
    kind: 'block',
    code: 'function f() {\n  |\n}\n',
    output: 'const a = g({ b: [1] });\n  return a;|\n}\n\nfunction h() {',
  },
  {
    name: 'typescript: writes the brace that the suffix lacks, and nothing behind it',
    path: 'a.ts',
    kind: 'block',
    code: 'function f() {\n  |',
    output: 'return 1;\n}|\n\nfunction h() {\n}',
  },
  {
    name: 'typescript: else behind a closing brace goes on',
    path: 'a.ts',
    kind: 'statement',
    code: 'function f() {\n  if (a) {|\n}\n',
    output: '\n    b();\n  } else {\n    c();\n  }|\n  d();\n',
  },
  {
    name: 'typescript: arguments end before the bracket behind the cursor',
    path: 'a.ts',
    kind: 'statement',
    code: 'foo(|);\n',
    output: 'a, bar(b)|);\nbaz();',
  },
  {
    name: 'typescript: a chain of methods is one statement',
    path: 'a.ts',
    kind: 'statement',
    code: 'const a = list|\n',
    output: '.filter(Boolean)\n.map((x) => {\n  return x;\n})|\nconst b = 1;',
  },
  {
    name: 'typescript: a template and a regular expression hold no brackets',
    path: 'a.ts',
    kind: 'block',
    code: 'function f() {\n  |\n}\n',
    output: 'const a = `)}\n]`;\n  const b = s.replace(/[)}/]\\)/g, "");|\n}',
  },
  {
    name: 'typescript: a division is no regular expression',
    path: 'a.ts',
    kind: 'statement',
    code: 'f(|)',
    output: 'a / b, (c) / d|)',
  },
  {
    name: 'c: a comment over lines, and a brace of its own line',
    path: 'a.c',
    kind: 'statement',
    code: 'int main(void)|\n',
    output: '\n{\n  /* }\n) */\n  return 0;\n}|\nint x;',
  },
  {
    name: 'go: tabs are columns',
    path: 'a.go',
    kind: 'block',
    code: 'func f() {\n\tif a {\n\t\t|\n\t}\n}\n',
    output: 'b()\n\t\tc()|\n\t}\n}',
  },
  {
    name: 'rust: a lifetime is no string',
    path: 'a.rs',
    kind: 'statement',
    code: "fn f<'a>(x: &'a str|) -> u8 {\n}\n",
    output: ", y: &'a [u8]|) -> u8 {",
  },
  {
    name: 'ruby: end closes what the line began',
    path: 'a.rb',
    kind: 'statement',
    code: '  def f|\n',
    output: '(a)\n    a + 1\n  end|\n  def g',
  },
  {
    name: 'blank lines at the end are as the model wrote them',
    path: 'a.py',
    kind: 'block',
    code: '|',
    output: 'a = 1\n\n',
  },
  {
    name: 'inside of a string over lines nothing is a rule',
    path: 'a.py',
    kind: 'block',
    code: 'def f():\n    """Says\n    |',
    output: 'hello.\nAnd ) bye.\n    """\n    return 1|\nx = 2',
  },
];

function parts(at: Case): { stop: () => ScopeStop; output: string; wanted: string; ends: boolean } {
  const [prefix = '', suffix = ''] = at.code.split('|');
  const [wanted = '', rest] = at.output.split(/\|(?!\|)/);
  const context = readContext({ prefix, suffix, path: at.path });
  return {
    stop: () => new ScopeStop(context, at.kind),
    output: wanted + (rest ?? ''),
    wanted,
    ends: rest !== undefined,
  };
}

function run(stop: ScopeStop, pieces: readonly string[]): { text: string; cut: number | null } {
  let text = '';
  for (const piece of pieces) text += stop.push(piece);
  text += stop.end();
  return { text, cut: stop.cut };
}

for (const at of CASES) {
  test(at.name, () => {
    const { stop, output, wanted, ends } = parts(at);
    const whole = run(stop(), [output]);
    assert.equal(whole.text, wanted);
    assert.equal(whole.cut, ends ? wanted.length : null);
    assert.deepEqual(run(stop(), [...output]), whole, 'unit by unit');
    for (let i = 0; i <= output.length; i += 1) {
      const twoPieces = run(stop(), [output.slice(0, i), output.slice(i)]);
      assert.deepEqual(twoPieces, whole, `cut at ${i}`);
    }
  });
}

test('a word that may have been cut off is not shown, and is no end of the scope', () => {
  const context = readContext({ prefix: 'if a', suffix: '\n', path: 'a.py' });
  for (const [word, cut] of [
    ['els', null],
    ['elsewhere', 9],
  ] as const)
    assert.deepEqual(
      run(new ScopeStop(context, 'statement'), [`:\n    b()\n${word}`]),
      { text: ':\n    b()', cut },
      word,
    );
});

test('nothing is held longer than a line and the line ends before it', () => {
  for (const at of CASES) {
    const { stop, output, wanted } = parts(at);
    const one = stop();
    let shown = '';
    let seen = '';
    for (const unit of output) {
      if (one.cut !== null) break;
      shown += one.push(unit);
      seen += unit;
      const held = seen.slice(shown.length);
      if (one.cut === null) assert.match(held, /^(?:\n\s*[^\n]*)?$/, `${at.name}: ${JSON.stringify(held)}`);
    }
    assert(wanted.startsWith(shown));
  }
});

test('random text through every kind of context: pieces make no difference, and what is shown is a beginning of it', () => {
  const alphabet = [
    '\n',
    '\n    ',
    '\n\t',
    ' ',
    '(',
    ')',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '`',
    '/',
    '*',
    '#',
    '\\',
    'else',
    'a',
    '.',
  ];
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  const text = (length: number): string => Array.from({ length }, () => alphabet[random(alphabet.length)]).join('');
  for (let round = 0; round < 3_000; round += 1) {
    const path = ['a.py', 'a.ts', 'a.go', 'a.rs', 'a.txt', ''][random(6)] as string;
    const context = readContext({ prefix: text(random(30)), suffix: text(random(20)), path });
    const kind: ScopeKind = random(2) === 0 ? 'block' : 'statement';
    const output = text(random(40));
    const whole = run(new ScopeStop(context, kind), [output]);
    assert(output.startsWith(whole.text));
    const pieces: string[] = [];
    for (let at = 0; at < output.length; ) {
      const length = 1 + random(5);
      pieces.push(output.slice(at, at + length));
      at += length;
    }
    assert.deepEqual(run(new ScopeStop(context, kind), pieces), whole, JSON.stringify({ path, kind, output, pieces }));
  }
});
