"""What the tests ran against: every fixture of a real server says so, and the summary prints it."""

_seen: dict[str, str] = {}


def ran_against(name: str, what: str) -> None:
    """Note that tests of `name` (such as `PostgreSQL`) ran against `what` (a version and how it was started)."""
    _seen[name] = what


def not_run(name: str, why: str) -> None:
    """Note that tests of `name` were skipped, and why."""
    _seen.setdefault(name, f"NOT RUN: {why}")


def seen() -> dict[str, str]:
    return dict(_seen)
