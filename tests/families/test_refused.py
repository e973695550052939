"""Models that cannot be decoded speculatively are refused at load, with the reason."""

import pytest
from families import REFUSED, Refused, tiny

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.target import Target


@pytest.mark.slow
@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.model_type)
def test_refused_with_its_reason(family: Refused) -> None:
    """Guards against a recurrent state that is rolled back in name only: silently wrong text."""
    model = tiny(family)
    assert type(model).__name__ == family.class_name
    with pytest.raises(UnsupportedModelError, match=family.reason) as caught:
        Target(model)
    assert family.class_name in str(caught.value)
