"""docs/models.md says what the tests of this folder have shown."""

import pytest
import report
import transformers
from families import FAMILIES, IS_COMPLETE, REFUSED

from selfdraft.tested_versions import NEWEST_TESTED

IS_NEWEST = transformers.__version__.startswith(NEWEST_TESTED["transformers"])


def test_the_newest_version_has_every_family() -> None:
    """Guards against a family whose tests are left out because its name is misspelt."""
    assert IS_COMPLETE or not IS_NEWEST


@pytest.mark.skipif(not IS_NEWEST, reason="the page is of the newest transformers")
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
