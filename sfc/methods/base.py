"""Base: the classifier alone, the paper's baseline."""

from __future__ import annotations

from torch import Tensor

from sfc.calibration.method import Method, Setup
from sfc.calibration.network import CorrelatedCamNetwork
from sfc.calibration.objective import Objective, batch_images, total
from sfc.config_types import Products, Section


class BaseParams(Section):
    """What Base alone reads."""

    pcm_iters: Products  # 0: no pixel correlation
    bkg_before_pcm: bool


class BaseNetwork(CorrelatedCamNetwork):
    """Trunk and classifier, with the pixel correlation of [image, layer4] itself.

    SFC projects that feature by f9 first, which only its consistency losses train. The released code has no Base;
    without those losses its f9 keeps its random start, and a random projection to as many channels keeps the cosines
    it projects, up to noise. On photographs and an ImageNet trunk that noise moves the refined map by 0.3 % and no
    label. So f9 is left out, and nothing untrained takes part.
    """


class BaseObjective(Objective):
    """One batch of crops to the loss of the classifier alone (Eq. 1); neither CAM nor second scale takes part."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars "loss" and its only part "cls"."""
        maps = self.network(batch_images(batch, self.network.backbone), hierarchy=False)
        return total({"cls": self.classification(maps, batch["label"])})


def _objective(setup: Setup, *, base: BaseParams) -> BaseObjective:
    return BaseObjective(BaseNetwork(**setup.trunk, **base.model_dump()))


BASE = Method("base", {"base": BaseParams}, BaseNetwork, _objective, losses=("cls",))
