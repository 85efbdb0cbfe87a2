"""Secrets from values, files and the environment."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.logging.redaction import MASK, forget_secrets, redact
from omnibase_core.protocols.protocol_secret_provider import ProtocolSecretProvider
from omnibase_spi.secrets import MAX_SECRET_BYTES, LayeredSecrets

LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def _empty_register() -> Iterator[None]:
    yield
    forget_secrets()


def write(path: Path, text: str | bytes, *, changed: int = LONG_AGO) -> None:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(path, (changed, changed))


def test_it_is_a_secret_provider() -> None:
    """The class fits the seam."""
    assert isinstance(LayeredSecrets(), ProtocolSecretProvider)


async def test_the_places_are_asked_in_order(tmp_path: Path) -> None:
    """Given values come before files, and files before the environment; a name in none of them is None."""
    write(tmp_path / "A", "file")
    write(tmp_path / "B", "file")
    everywhere = {"A": "environment", "B": "environment", "C": "environment"}
    secrets = LayeredSecrets({"A": "given"}, tmp_path, everywhere)

    assert [await secrets.get(name) for name in "ABCD"] == ["given", "file", "environment", None]


async def test_an_empty_value_is_a_value(tmp_path: Path) -> None:
    """An empty secret in an earlier place is not looked for in a later one."""
    write(tmp_path / "B", "")

    secrets = LayeredSecrets({"A": ""}, tmp_path, {"A": "x", "B": "x"})

    assert [await secrets.get("A"), await secrets.get("B")] == ["", ""]


@pytest.mark.parametrize(
    ("content", "expected"),
    [("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), (" a ", " a "), ("a\nb\n", "a\nb"), ("\n", ""), ("ä✓", "ä✓")],
)
async def test_one_trailing_newline_is_not_part_of_the_secret(tmp_path: Path, content: str, expected: str) -> None:
    """Editors end files with a newline; everything else belongs to the secret."""
    write(tmp_path / "A", content)

    assert await LayeredSecrets(directory=tmp_path).get("A") == expected


@pytest.mark.parametrize("name", ["", "..", "../A", "a/b", "/etc/passwd", "1A", "A.txt", "A\n", "A\0", "ä"])
async def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    """A name that could leave the directory, or that no place could have, is VALIDATION_ERROR."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    write(tmp_path / "A", "outside")

    with pytest.raises(EffectFault, match="names match") as caught:
        await LayeredSecrets({name: "x"}, directory, {name: "x"}).get(name)

    assert (caught.value.error_code, caught.value.phase) == (
        EnumCoreErrorCode.VALIDATION_ERROR,
        EnumFaultPhase.NOT_SENT,
    )


async def test_the_policy_limits_the_names() -> None:
    """A name outside `allowed` is SECURITY_VIOLATION, whether or not there is such a secret."""
    secrets = LayeredSecrets({"A": "x", "B": "hidden"}, allowed=["A"])

    with pytest.raises(EffectFault, match=r"'A'") as caught:
        await secrets.get("B")

    assert await secrets.get("A") == "x"
    assert caught.value.error_code is EnumCoreErrorCode.SECURITY_VIOLATION


async def test_a_rotated_file_is_read_again(tmp_path: Path) -> None:
    """A file that was replaced or rewritten gives its new content at the next call, a removed one none."""
    secrets = LayeredSecrets(directory=tmp_path)
    write(tmp_path / "A", "old")
    seen = [await secrets.get("A")]

    write(tmp_path / "new", "new")
    (tmp_path / "new").replace(tmp_path / "A")
    seen.append(await secrets.get("A"))
    write(tmp_path / "A", "NEW", changed=LONG_AGO + 1)
    seen.append(await secrets.get("A"))
    (tmp_path / "A").unlink()
    seen.append(await secrets.get("A"))

    assert seen == ["old", "new", "NEW", None]


async def test_rotation_the_way_kubernetes_does_it(tmp_path: Path) -> None:
    """Secrets are links through `..data`, which is exchanged for another directory."""
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        write(tmp_path / f"..{version}" / "A", f"version {version}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "A").symlink_to("..data/A")
    secrets = LayeredSecrets(directory=tmp_path)
    before = await secrets.get("A")

    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").replace(tmp_path / "..data")

    assert [before, await secrets.get("A")] == ["version 1", "version 2"]


async def test_a_file_that_has_just_changed_is_not_trusted(tmp_path: Path) -> None:
    """Two changes within one tick of the file system's clock are both seen."""
    secrets = LayeredSecrets(directory=tmp_path)
    (tmp_path / "A").write_text("one")
    now = (tmp_path / "A").stat()

    first = await secrets.get("A")
    (tmp_path / "A").write_text("two")
    os.utime(tmp_path / "A", ns=(now.st_atime_ns, now.st_mtime_ns))

    assert [first, await secrets.get("A")] == ["one", "two"]


async def test_a_file_may_have_64_kib_and_no_more(tmp_path: Path) -> None:
    """A larger file is CONFIGURATION_ERROR naming the limit."""
    write(tmp_path / "A", "x" * MAX_SECRET_BYTES)
    write(tmp_path / "B", "x" * (MAX_SECRET_BYTES + 1))
    secrets = LayeredSecrets(directory=tmp_path)

    with pytest.raises(EffectFault, match="65536") as caught:
        await secrets.get("B")

    assert await secrets.get("A") == "x" * MAX_SECRET_BYTES
    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


async def test_a_file_that_is_not_text_is_refused_without_its_content(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are CONFIGURATION_ERROR, and neither message nor cause quotes them."""
    write(tmp_path / "A", b"top-secret\xff")

    with pytest.raises(EffectFault, match="UTF-8") as caught:
        await LayeredSecrets(directory=tmp_path).get("A")

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert "top-secret" not in f"{caught.value!r} {caught.value.context} {caught.value.__cause__!r}"


@pytest.mark.parametrize("kind", ["directory", "pipe"])
async def test_only_a_regular_file_holds_a_secret(tmp_path: Path, kind: str) -> None:
    """A directory or a pipe is refused at once instead of being waited for."""
    path = tmp_path / "A"
    os.mkfifo(path) if kind == "pipe" else os.mkdir(path)  # one line for either

    with pytest.raises(EffectFault, match="regular file") as caught:
        await asyncio.wait_for(LayeredSecrets(directory=tmp_path).get("A"), 2)

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


async def test_a_file_that_cannot_be_read_is_a_fault_and_not_a_missing_secret(tmp_path: Path) -> None:
    """A read error is RESOURCE_UNAVAILABLE with the errno's name; the environment is not asked instead."""
    (tmp_path / "A").symlink_to("A")

    with pytest.raises(EffectFault) as caught:
        await LayeredSecrets(directory=tmp_path, environ={"A": "wrong one"}).get("A")

    assert (caught.value.error_kind, caught.value.phase) == ("ELOOP", EnumFaultPhase.NOT_SENT)
    assert caught.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE


async def test_a_directory_that_does_not_exist_holds_no_secrets(tmp_path: Path) -> None:
    """The default directory need not exist."""
    assert await LayeredSecrets(directory=tmp_path / "none", environ={"A": "x"}).get("A") == "x"


async def test_what_was_found_is_redacted_from_then_on(tmp_path: Path) -> None:
    """Every secret that was given out is known to redaction, and the provider shows none of them."""
    write(tmp_path / "B", "from-the-file\n")
    secrets = LayeredSecrets({"A": "from-the-program"}, tmp_path, {"C": "from-the-environment"})

    for name in "ABC":
        await secrets.get(name)

    assert redact("from-the-program from-the-file from-the-environment") == " ".join([MASK] * 3)
    assert "from-the" not in repr(secrets)


def test_one_provider_serves_several_loops(tmp_path: Path) -> None:
    """Nothing is bound to an event loop."""
    write(tmp_path / "A", "x")
    secrets = LayeredSecrets(directory=tmp_path)

    assert [asyncio.run(secrets.get("A")) for _ in range(2)] == ["x", "x"]
