"""What is learned about drafting on one model, shared by all its requests."""

from selfdraft.drafting.calibration import Calibration
from selfdraft.drafting.cost_model import CostModel
from selfdraft.drafting.recycling import SuccessorTable


class DraftMemory:
    """Costs of passes, how often drafts are right, and recycled successors; safe to share."""

    def __init__(self, costs: CostModel | None = None) -> None:
        self.costs = costs or CostModel()
        self.calibration = Calibration()
        self.successors = SuccessorTable()
