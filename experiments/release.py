"""What is checked before a release: ``python -m experiments.release DIST``.

The files in the wheel, the licences of everything that is installed with it, and a list of all that
(SBOM, CycloneDX 1.5) beside the archives.
"""

import importlib.metadata as metadata
import json
import re
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("fedmeta", "clients", "strategies", "experiments")
EXTRAS = ("", "offline", "tracking", "serve", "onnx", "peft")
"""What a user installs; tools of developers are not handed on."""

LICENCES = (
    "Apache", "BSD", "MIT", "ISC", "PSF", "Python Software Foundation", "MPL-2.0",
    "Mozilla Public License 2.0", "Unlicense", "Zlib", "HPND", "CC0", "0BSD", "CNRI-Python",
)  # fmt: skip
"""Licences under which a dependency may be asked for; none obliges who only imports it."""


def closure(name: str, extras: tuple[str, ...] = EXTRAS) -> dict[str, metadata.Distribution]:
    """All that is installed with a package, by normalized name; what is not there is left out."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(name, extras)]
    asked: set[tuple[str, str]] = set()
    while todo:
        name, wanted = todo.pop()
        key = canonicalize_name(name)
        fresh = [extra for extra in wanted if (key, extra) not in asked]
        asked |= {(key, extra) for extra in fresh}
        try:
            found[key] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for text in found[key].requires or ():
            need = Requirement(text)
            if any(need.marker is None or need.marker.evaluate({"extra": e}) for e in fresh):
                todo.append((need.name, ("", *need.extras)))
    return found


def sbom(found: dict[str, metadata.Distribution]) -> dict[str, Any]:
    """The packages as a CycloneDX document, and which needs which."""
    refs = {key: f"pkg:pypi/{key}@{one.version}" for key, one in sorted(found.items())}
    own = refs["fedmeta"]
    needs = {
        key: sorted({refs[n] for t in one.requires or () if (n := _name(t)) in refs})
        for key, one in found.items()
    }
    components = [
        {
            "type": "library",
            "bom-ref": ref,
            "name": key,
            "version": found[key].version,
            "purl": ref,
        }
        for key, ref in refs.items()
        if ref != own
    ]
    root = {"type": "application", "bom-ref": own, "name": "fedmeta", "purl": own}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(refs.values()))}",
        "version": 1,
        "metadata": {"component": root | {"version": found["fedmeta"].version}},
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": needs[key]} for key, ref in refs.items()],
    }


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def misplaced(wheel: Path) -> list[str]:
    """What is missing in a wheel, and what has no place in it."""
    names = zipfile.ZipFile(wheel).namelist()
    wanted = [f"{package}/{file}" for package in PACKAGES for file in ("__init__.py", "py.typed")]
    data = [
        f"experiments/{folder}/{path.name}"
        for folder in ("configs", "report/assets")
        for path in (ROOT / "experiments" / folder).iterdir()
        if path.is_file()
    ]
    missing = [f"missing: {name}" for name in (*wanted, *data) if name not in names]
    own = re.compile(rf"({'|'.join(PACKAGES)}|fedmeta-[^/]+\.dist-info)/")
    return missing + [f"no place in it: {name}" for name in names if not own.match(name)]


def licence_problems(found: dict[str, metadata.Distribution]) -> str:
    """What pip-licenses says against the licences of packages; "" where all are allowed."""
    names = sorted(one.metadata["Name"] for one in found.values())
    done = subprocess.run(
        [
            sys.executable, "-m", "piplicenses", "--from=mixed", "--partial-match",
            f"--allow-only={';'.join(LICENCES)}", "--packages", *names,
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    return "" if done.returncode == 0 else (done.stderr or done.stdout)


def main() -> None:
    """Check a folder of archives and write ``sbom.json`` into it; exit code 1 where one fails."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist")
    found = closure("fedmeta")
    (folder / "sbom.json").write_text(json.dumps(sbom(found), indent=1) + "\n", encoding="utf-8")
    problems = [text for wheel in folder.glob("*.whl") for text in misplaced(wheel)]
    if not list(folder.glob("*.whl")) or not list(folder.glob("*.tar.gz")):
        problems.append(f"expected a wheel and a source archive in {str(folder)!r}")
    if said := licence_problems(found):
        problems.append(said)
    for text in problems:
        print(text, file=sys.stderr)
    print(f"{len(found)} packages in {folder / 'sbom.json'}; {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
