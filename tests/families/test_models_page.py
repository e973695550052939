"""docs/models.md says what the tests of this folder have shown."""

import report
from families import FAMILIES, REFUSED


def test_the_page_is_the_tables() -> None:
    """Guards against a page that promises what nobody tests.

    `python tests/families/report.py` writes it again.
    """
    assert report.PAGE.read_text(encoding="utf-8") == report.page()


def test_no_family_is_listed_twice() -> None:
    """Guards against a variant without a name, whose tests would run on another one's model."""
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    assert not {family.model_type for family in FAMILIES} & {r.model_type for r in REFUSED}
