"""What is in the pages: headings, links, and blocks of commands."""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^ *(`{3,}) *(\S*)")
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")


def files(*where):
    """Files of the repository with one of these endings (*.md) or in one of these folders."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ("target", "node_modules", ".git")]
        for path in (Path(folder, name).relative_to(ROOT) for name in names):
            if any(path.match(part) or Path(part) in (path, *path.parents) for part in where):
                found.append(ROOT / path)
    return sorted(found)


@dataclass(frozen=True)
class Block:
    """A fenced block; its name is PAGE#SECTION/NUMBER among those of one language's kind."""

    name: str
    language: str
    text: str


@dataclass(frozen=True)
class Page:
    anchors: frozenset
    links: tuple
    blocks: tuple


def slug(heading):
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


@cache
def read(path):
    anchors, links, blocks = {}, [], []
    section, fence, counts = "", None, {}
    for line in path.read_text().splitlines():
        mark = FENCE.match(line)
        if fence:
            if mark and line.strip() == fence["mark"]:
                blocks.append(Block(fence["name"], fence["language"], "\n".join(fence["lines"]) + "\n"))
                fence = None
            else:
                fence["lines"].append(line)
        elif mark:
            kind = "run" if mark[2] in ("bash", "console", "sh", "shell") else mark[2]
            counts[section, kind] = counts.get((section, kind), 0) + 1
            tail = counts[section, kind] if kind == "run" else f"{kind}{counts[section, kind]}"
            name = f"{path.relative_to(ROOT)}#{section}/{tail}"
            fence = {"mark": mark[1], "language": mark[2], "lines": [], "name": name}
        else:
            if heading := HEADING.match(line):
                section = slug(heading[1])
                seen = anchors.get(section, 0)
                anchors[section] = seen + 1
                section = f"{section}-{seen}" if seen else section
                anchors.setdefault(section, 1)
            links += LINK.findall(re.sub(r"`[^`]*`", "", line))
    if fence:
        raise AssertionError(f"{path}: a block does not end")
    return Page(frozenset(anchors), tuple(links), tuple(blocks))
