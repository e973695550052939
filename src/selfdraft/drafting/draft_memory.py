"""What is learned about drafting on one model, shared by all its requests."""

from selfdraft.drafting.calibration import Calibration
from selfdraft.drafting.cost_model import CostModel
from selfdraft.drafting.free.recycling import SuccessorTable
from selfdraft.drafting.prices import Rate

_RECENT_PLACES = 64


class DraftMemory:
    """What passes cost and time is worth, how often drafts are right, recycled successors.

    Safe to share between requests.
    """

    def __init__(self, costs: CostModel | None = None) -> None:
        self.costs = costs or CostModel()
        self.rate = Rate()
        self.calibration = Calibration()
        self.successors = SuccessorTable()
        self.free_worth = 0.0
        """What comes for nothing at a place is usually worth, in tokens."""

    def see_free_worth(self, here: float) -> None:
        """Count what it is worth at one more place.

        An update that another thread undoes is lost, which does no harm.
        """
        self.free_worth += (here - self.free_worth) / _RECENT_PLACES
