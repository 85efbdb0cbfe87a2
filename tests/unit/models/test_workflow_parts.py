"""Parts of workflows that contracts and programs share."""

import pytest
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import ValidationError

from omnibase_core.models.contracts.workflow_parts import ModelDependency

VERSIONS = (
    "1",
    "v1.0",
    "1!2.0",
    "1.0.*",
    "1.0.*.x",
    "1.*.0",
    "*",
    "1.0a1",
    "1.0-alpha.1",
    "1.0RC1",
    "1.0.post1",
    "1.0-1",
    "1.0.dev3",
    "1.0a1.post2.dev3",
    "1.0+ubuntu.1",
    "1.0+",
    "1.0.x",
    "1..0",
    "latest",
    "1.0 2.0",
)


@pytest.mark.parametrize("operator", ["==", "!=", "<=", ">=", "<", ">", "~=", "===", "=", ""])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_constraint_is_what_pep_440_says(operator: str, version: str) -> None:
    """One that could not be held against a version is refused where it stands."""
    constraint = f">=0.1, {operator}{version}"

    assert _is_taken(constraint) == _is_read(constraint)


def _is_taken(constraint: str) -> bool:
    try:
        ModelDependency(service_name="a", version_constraint=constraint)
    except ValidationError:
        return False
    return True


def _is_read(constraint: str) -> bool:
    try:
        SpecifierSet(constraint)
    except InvalidSpecifier:
        return False
    return True
