"""Settings out of file and environment, and how they are shown."""

from pathlib import Path

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.settings_source import settings_from_environ
from omnibase_runtime.settings import BUILT_IN, describe, load_settings


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[conections.a]\nurl = "sqlite:///a.db"\n',
            ["conections (PATH/s.toml:2)", "unknown", "did you mean 'connections'?", "policy"],
        ),
        ('[connections.a]\nurll = "x"\n', ["connections.a.urll (PATH/s.toml:2)", "did you mean 'url'?", "options"]),
        ("[connections.a]\n", ["connections.a.url (PATH/s.toml:1)", "is missing", 'url = "']),
        ("connections = 5\n", ["connections (PATH/s.toml:1)", "must be a table", "found a number"]),
        ("[[connections]]\na = 1\n", ["connections (PATH/s.toml:1)", "must be a table", "found a list"]),
        ('[policy]\nfile_roots = "data"\n', ["policy.file_roots (PATH/s.toml:2)", "must be a list", '["data"]']),
        ("[policy]\nenv_names = [1]\n", ["policy.env_names[0] (PATH/s.toml:2)", "must be a text, found a number"]),
        ("[retry_budget]\ncapacity = 0\n", ["retry_budget.capacity (PATH/s.toml:2)", "from 1 to 1000000", "found 0"]),
        (
            '[connections.a]\nurl = "sqlite:///a.db"\noptions = {x = [1]}\n',
            ["connections.a.options.x (PATH/s.toml:3)", "text, number, true, false"],
        ),
        ("data_dir = 5\n", ["data_dir (PATH/s.toml:1)", "must be a path"]),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(tmp_path: Path, text: str, words: list[str]) -> None:
    """The key, its line, what was found, what is allowed and what to write, each problem once."""
    file = _write(tmp_path / "s.toml", text)

    with pytest.raises(ModelOnexError) as caught:
        load_settings(file, {})

    for word in words:
        assert word.replace("PATH", str(tmp_path)) in caught.value.message
    assert isinstance(problems := caught.value.context["problems"], list)
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ONEX_POLICY__FILE_ROOTS", "data", ["policy.file_roots", "JSON list", "ONEX_POLICY__FILE_ROOTS='[\"data\"]'"]),
        ("ONEX_POLICY__FILE_ROTS", "[]", ["policy.file_rots", "did you mean ONEX_POLICY__FILE_ROOTS?"]),
        ("ONEX_RETRY_BUDGET__CAPACITY", "many", ["retry_budget.capacity", "a whole number from 1 to 1000000"]),
        ("ONEX_CONNECTIONS__A__OPTIONS__POOL_SIZE", "5", ["connections.a.url", "set ONEX_CONNECTIONS__A__URL"]),
        ("ONEX_CONNECTIONS", "x", ["connections", "must be a table", "ONEX_CONNECTIONS__NAME__URL"]),
    ],
)
def test_a_wrong_variable_is_named_with_what_to_set(variable: str, value: str, words: list[str]) -> None:
    """A container that reads the environment alone says the same as the command line."""
    environ = {variable: value, "ONEX_DATA_DIR": "fine"}
    with pytest.raises(ModelOnexError) as told:
        load_settings(Path("/dev/null"), environ)
    with pytest.raises(ModelOnexError) as bare:
        settings_from_environ(environ)

    assert f"({variable})" in told.value.message
    assert all(word in told.value.message for word in words), told.value.message
    assert bare.value.message == told.value.message


def test_no_value_of_a_connection_or_secret_is_quoted_in_a_complaint() -> None:
    """They may be secret whatever their form."""
    environ = {"ONEX_CONNECTIONS__A__URL__X": "hunter2", "ONEX_SECRETS": "hunter2"}

    with pytest.raises(ModelOnexError) as caught:
        settings_from_environ(environ)

    assert "hunter2" not in f"{caught.value.message}{caught.value.context}"


def test_a_secret_keeps_the_letters_of_its_variable() -> None:
    """`${secret.API_TOKEN}` reads `ONEX_SECRETS__API_TOKEN`, and an underscore more is part of the name."""
    environ = {"ONEX_SECRETS__API_TOKEN": "1", "ONEX_SECRETS__api_token": "2", "ONEX_SECRETS__A__B": "3"}

    loaded = load_settings(Path("/dev/null"), environ)

    secrets = {name: value.get_secret_value() for name, value in loaded.settings.secrets.items()}
    assert secrets == {"API_TOKEN": "1", "api_token": "2", "A__B": "3"}
    assert loaded.sources["secrets.API_TOKEN"] == "ONEX_SECRETS__API_TOKEN"


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
    assert rows["policy.file_roots"].value == "the current directory"
    assert rows["policy.allowed_hosts"].value == "no restriction"
