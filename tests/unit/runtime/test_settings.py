"""Settings out of file and environment, and how they are shown."""

from pathlib import Path

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_runtime.settings import BUILT_IN, describe, load_settings, masked_url


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_environment_wins_over_the_file_and_each_value_names_its_place(tmp_path: Path) -> None:
    """A value's source is `file:line` or the very variable."""
    file = _write(tmp_path / "s.toml", 'data_dir = "a"\n\n[connections.db]\nurl = "sqlite:///a.db"\n')

    loaded = load_settings(file, {"ONEX_DATA_DIR": "b"})

    assert loaded.settings.data_dir == Path("b")
    assert loaded.sources["data_dir"] == "ONEX_DATA_DIR"
    assert loaded.sources["connections.db.url"] == f"{file}:4"


def test_without_a_name_onex_toml_of_the_current_directory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`onex.toml` is read when it is there, `ONEX_CONFIG` names another."""
    _write(tmp_path / "onex.toml", 'data_dir = "here"')
    other = _write(tmp_path / "other.toml", 'data_dir = "there"')
    monkeypatch.chdir(tmp_path)

    assert load_settings(None, {}).settings.data_dir == Path("here")
    assert load_settings(None, {"ONEX_CONFIG": str(other)}).settings.data_dir == Path("there")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("data_dir = \n", "s.toml:1:"),
        ('data_dir = "a"\n[connections.db]\nurl = 5\n', "connections.db.url (PATH/s.toml:3)"),
        ("[retry_budget]\ncapacity = 0\n", "retry_budget.capacity (PATH/s.toml:2)"),
        ("[policy]\nfile_rots = []\n", "policy.file_rots (PATH/s.toml:2)"),
        ('[connections."a b"]\nurl = 1\n', "connections.a b.url (PATH/s.toml:2)"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    """Syntax and content are reported with file and line."""
    file = _write(tmp_path / "s.toml", text)

    with pytest.raises(ModelOnexError) as caught:
        load_settings(file, {})

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert place.replace("PATH", str(tmp_path)) in caught.value.message


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """A file that was asked for must be there."""
    with pytest.raises(ModelOnexError, match="does not exist") as caught:
        load_settings(tmp_path / "none.toml", {})

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Passwords in URLs and options, and secrets, are masked; hosts are not."""
    file = _write(
        tmp_path / "s.toml",
        '[connections.db]\nurl = "postgresql://me:hunter2@db.test:5432/x?password=hunter2"\n'
        '[connections.k]\nurl = "kafka://k.test:9092"\noptions = {"sasl.password" = "hunter2"}\n'
        '[secrets]\nTOKEN = "hunter2"\n',
    )

    rows = describe(load_settings(file, {}))

    assert not any("hunter2" in row.value for row in rows)
    shown = {row.key: row.value for row in rows}
    assert shown["connections.db.url"] == "postgresql://***@db.test:5432/x?***"
    assert shown["connections.k.url"] == "kafka://k.test:9092"


def test_a_default_is_shown_as_built_in() -> None:
    """What nobody has set says so."""
    rows = {row.key: row for row in describe(load_settings(Path("/dev/null"), {}))}

    assert rows["data_dir"].source == BUILT_IN
    assert rows["policy.file_roots"].value == "no restriction"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("mysql://root@h/x", "mysql://***@h/x"),
        ("postgresql://u:p@ss@h/x#f", "postgresql://***@h/x?***"),
        ("not a url", "***"),
    ],
)
def test_what_stands_before_the_last_at_sign_is_masked(url: str, shown: str) -> None:
    """A password may itself hold an `@`."""
    assert masked_url(url) == shown
