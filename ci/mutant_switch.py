# SPDX-License-Identifier: Apache-2.0
"""Compiles many mutants into one build: each is behind a switch that is read when the program runs.

switched(source, mutant) gives the edits that turn the text of a mutant into "mutant or original"; None when its form is not one of
  - a condition that becomes false,
  - statements that are removed or replaced,
  - an expression of one statement, or one name, that is replaced.
"""
import re

HEADER = """#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
// True while this mutant is switched on: by the environment, or by a file for programs that clear theirs.
inline bool keyagent_mutant(const char* name) {
  struct Active {
    char text[128] = {};
    Active() {
      if (const char* set = std::getenv("KEYAGENT_MUTANT")) {
        std::strncpy(text, set, sizeof text - 1);
        return;
      }
      const int fd = ::open("@FILE@", O_RDONLY | O_CLOEXEC);
      if (fd < 0) return;
      if (::read(fd, text, sizeof text - 1) < 0) text[0] = 0;
      ::close(fd);
    }
  };
  static const Active active;
  return std::strcmp(active.text, name) == 0;
}
"""
TEXTS = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.S)
OPEN, CLOSE = "([{", ")]}"
NAME = re.compile(r"[A-Za-z_]\w*(?:::\w+)*|\d\w*")
# A declaration at the outermost level of a text: `const std::lock_guard lock(mutex);`.
SCOPED = re.compile(r"\A\s*(?!return\b|throw\b|delete\b|co_|if\b|for\b|while\b|else\b)(?:const\s+|static\s+)?[A-Za-z_][\w:]*(?:<[^;]*>)?\s*[&*]?\s+[A-Za-z_]\w*\s*[({=;]")
DECLARES = re.compile(r"^(?:(?:static|const|constexpr|auto|std::size_t|bool|int)\b[\w:<>,&*\s]*?\b\w+\s*[=({]|[\w:]+(?:<[^;=]*>)?[&*]?\s+\w+\s*=)")


def end_of_group(text, start):
    """Index after the bracket that closes the one at `start`; -1 when there is none."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in OPEN:
            depth += 1
        elif text[at] in CLOSE:
            depth -= 1
            if depth == 0:
                return at + 1
    return -1


def mask(source):
    """The same text with blanks for comments and literals."""
    return TEXTS.sub(lambda found: re.sub(r"[^\n]", " ", found[0]) if found[0][0] == "/" else re.sub(r"[^\n]", "x", found[0]), source)


def is_balanced(text):
    depth = 0
    for each in text:
        depth += (each in OPEN) - (each in CLOSE)
        if depth < 0:
            return False
    return depth == 0


def condition_of(statement):
    """("if (", condition, rest) of an if statement without an initializer or a declaration."""
    head = re.match(r"\s*(?:\} else )?if \(", statement)
    if not head:
        return None
    end = end_of_group(statement, head.end() - 1)
    condition = statement[head.end():end - 1]
    if end < 0 or ";" in condition or re.match(r"\s*(?:const\s|auto\b|[\w:<>]+[&*]? \w+ = )", condition):
        return None
    return statement[:head.end()], condition, statement[end - 1:]


def bounds(masked, start, end):
    """The whole statements around [start, end), or the head of an if statement up to its brace."""
    depth, first = 0, start
    while first > 0:
        each = masked[first - 1]
        if depth == 0 and each in ";{}([":
            break
        depth += (each in ")]") - (each in "([")
        first -= 1
    if first > 0 and masked[first - 1] in "([":
        return None
    first += len(masked[first:]) - len(masked[first:].lstrip())
    depth, at = 0, first
    while at < len(masked):
        each = masked[at]
        depth += (each in OPEN) - (each in CLOSE)
        if depth < 0:
            return None
        at += 1
        if at >= end and depth == 0 and (each == ";" or each == "}" and not re.match(r"\s*(?:[;,.)]|else\b|catch\b)", masked[at:])):
            return first, at
        if at >= end and each == "{" and depth == 1 and condition_of(masked[first:at]):
            return first, at
    return None


def names(before, after):
    """(start, end, name before, name after) where the two texts differ by one name."""
    shared = 0
    while shared < min(len(before), len(after)) and before[shared] == after[shared]:
        shared += 1
    while shared > 0 and re.match(r"[\w:]", before[shared - 1]):
        shared -= 1
    first = NAME.match(before, shared), NAME.match(after, shared)
    if not all(first) or before[first[0].end():] != after[first[1].end():]:
        return None
    return shared, first[0].end(), first[0][0], first[1][0]


def switched(source, mutant):
    """[(start, end, text)] for `source`, or None."""
    on, at = f'keyagent_mutant("{mutant.name}")', source.index(mutant.text)
    text, new = mutant.text, mutant.replacement
    masked = mask(source)
    if new and text.endswith(new):
        text, new = text[:-len(new)], ""
    elif new and text.startswith(new):
        at, text, new = at + len(new), text[len(new):], ""
    if not new and SCOPED.search(mask(text)):
        return None  # an object that lives to the end of its block: no braces around it
    if not new and text.rstrip().endswith((";", "}")) and is_balanced(mask(text)):
        return [(at, at + len(text), f"if (!{on}) {{\n{text}}}\n")]
    if new in ("true", "false") and is_balanced(mask(text)) and ";" not in text:
        return [(at, at + len(text), f"({on} ? {new} : static_cast<bool>({text}))")]
    if one := names(text, new):
        before = source[:at + one[0]].rstrip()
        if not before.endswith((".", "->", '"', "::")) and masked[at + one[0]] != "x" and one[3] != "false":
            return [(at + one[0], at + one[1], f"({on} ? {one[3]} : {one[2]})")]
    at += len(text) - len(text.lstrip())
    around = bounds(masked, at, at + len(text.strip()))
    if around is None:
        return None
    first, last = around
    old = source[first:last]
    # The replacement may have more or less blanks around it than the text.
    place = source.index(mutant.text)
    new = source[:place] + mutant.replacement + source[place + len(mutant.text):]
    new = new[first:last + len(new) - len(source)]
    return replaced(old, new, on, first, last)


def replaced(old, new, on, first, last):
    conditions = condition_of(old), condition_of(new)
    if all(conditions) and conditions[0][0] == conditions[1][0] and conditions[0][2] == conditions[1][2]:
        head, condition, rest = conditions[0]
        if conditions[1][1] == "false":
            return [(first, last, f"{head}!{on} && ({condition}){rest}")]
        return [(first, last, f"{head}{on} ? static_cast<bool>({conditions[1][1]}) : static_cast<bool>({condition}){rest}")]
    if not is_balanced(mask(old)) or not is_balanced(mask(new)):
        return None
    if DECLARES.match(old):
        parts = [re.match(r"([^=]*[^=!<>]=)\s*([^=].*);\s*$", each, re.S) for each in (old, new)]
        if not all(parts) or parts[0][1] != parts[1][1] or ";" in parts[0][2]:
            return None
        return [(first, last, f"{parts[0][1]} {on} ? ({parts[1][2]}) : ({parts[0][2]});")]
    if SCOPED.search(mask(old)) or SCOPED.search(mask(new)):
        return None
    return [(first, last, f"{{ if ({on}) {{ {new}\n}} else {{ {old}\n}} }}")]
