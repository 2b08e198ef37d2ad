"""The dependencies: their bounds, the versions the tests ran with, and their licences.

python -m tests.support.supply lock       # writes tests/constraints.txt from this environment
python -m tests.support.supply licences   # writes docs/licences.md from the installed packages
python -m tests.support.supply check      # what tests/test_supply.py asserts, in words
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt")
LOCK = ROOT / "tests" / "constraints.txt"
LICENCES = ROOT / "docs" / "licences.md"
PLATFORM = ("nvidia-", "triton", "cuda-", "pip", "setuptools", "wheel")
"""Packages that depend on the machine or come with Python, which a lock must not name."""

LOCK_HEADER = """\
# The versions that the tests ran with, on Python {python}. Nothing reads this file by itself.
# To install exactly these:  pip install -r requirements.txt -r tests/requirements.txt -c {name}
# Builds of torch for a kind of processor (+cpu, +cu130) count as the version without the suffix.
# Made by:  python -m tests.support.supply lock
"""


def requirements(path: Path) -> list[Requirement]:
    """The requirements of a file."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def unbounded(path: Path) -> list[str]:
    """Names without an upper bound."""
    return [
        requirement.name
        for requirement in requirements(path)
        if not any(part.operator in ("<", "<=", "==", "~=") for part in requirement.specifier)
    ]


def outside(path: Path) -> list[str]:
    """Installed packages that the file does not allow, and those that are missing."""
    found = []
    for requirement in requirements(path):
        try:
            version = metadata.version(requirement.name).split("+")[0]
        except metadata.PackageNotFoundError:
            found.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} {version} is not {requirement.specifier}")
    return found


def closure() -> dict[str, str]:
    """Version of every package that the requirements bring along on this machine."""
    todo = [requirement.name for path in FILES for requirement in requirements(path)]
    versions: dict[str, str] = {}
    while todo:
        name = canonicalize_name(todo.pop())
        if name in versions or name.startswith(PLATFORM):
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # wanted on other platforms only
            continue
        versions[name] = package.version.split("+")[0]
        for text in package.requires or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(need.name)
    return dict(sorted(versions.items()))


def lock_text() -> str:
    """The content of the lock file for this environment."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    header = LOCK_HEADER.format(python=python, name=LOCK.relative_to(ROOT).as_posix())
    return header + "".join(f"{name}=={version}\n" for name, version in closure().items())


def licence(name: str) -> str:
    """The licence as the package's own metadata have it, on one line."""
    data = metadata.metadata(name)
    stated = data.get("License-Expression") or ""
    classifiers = [
        line.rsplit(" :: ", 1)[1]
        for line in data.get_all("Classifier") or []
        if line.startswith("License :: ") and " :: " in line[11:]
    ]
    text = (data.get("License") or "").strip().splitlines()
    short = text[0] if text and len(text[0]) < 60 else ""
    return stated or ", ".join(classifiers) or short or "not stated in the metadata"


def licences_text() -> str:
    """A table of the direct dependencies and their licences."""
    lines = [
        "# Licences of the direct dependencies",
        "",
        "Made from the installed packages' metadata by `python -m tests.support.supply licences`.",
        "DPD Studio itself is under Apache-2.0; it contains none of their code.",
        "",
    ]
    for path, title in zip(FILES, ("To run", "To test"), strict=True):
        lines += [
            f"## {title} (`{path.relative_to(ROOT).as_posix()}`)",
            "",
            "| package | version | licence |",
            "| --- | --- | --- |",
        ]
        for requirement in sorted(
            requirements(path), key=lambda requirement: requirement.name.lower()
        ):
            version = metadata.version(requirement.name).split("+")[0]
            terms = licence(requirement.name).replace("|", "/")
            lines.append(f"| {requirement.name} | {version} | {terms} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run one of the commands in the module's docstring."""
    command = arguments[0] if arguments else ""
    if command == "lock":
        LOCK.write_text(lock_text())
    elif command == "licences":
        LICENCES.parent.mkdir(exist_ok=True)
        LICENCES.write_text(licences_text())
    elif command == "check":
        for path in FILES:
            print(
                f"{path.relative_to(ROOT)}: {len(requirements(path))} packages, "
                f"{len(unbounded(path))} without an upper bound, "
                f"{len(outside(path))} outside the bounds here"
            )
        print(f"tests/constraints.txt: {len(closure())} packages")
    else:
        print(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
