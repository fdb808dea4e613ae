"""Heads: how the logits of a network relate to classes and tone groups, one Python class per head.

After Wang et al. 2020, "Towards Fairness in Visual Recognition". To add one: a class here, its name in
HEADS and in `melfast.models.record.Head`.

In training, an image of unknown group contributes only through its class: a discriminative head uses
the probability of the class summed over the groups, an independent head its mean.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from melfast.models.record import Head, ModelRecord


def plain_probability(logits: torch.Tensor) -> torch.Tensor:
    """Softmax over the classes; [B, C] to [B]."""
    return logits.softmax(dim=1)[:, -1]


def discriminative_probability(logits: torch.Tensor, priors: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    """P(group, class) divided by its training share (prior shift to equally frequent pairs), summed over groups.

    Logits [B, G * C], shares [G][C]; pairs without training images are left out.
    """
    # Not `device=logits.device`: a trace would keep the device on which it was made.
    share = torch.tensor(priors, dtype=torch.float32).type_as(logits)
    weights = torch.where(share > 0, 1 / share, 0.0)
    joint_bgc = logits.softmax(dim=1).view(-1, *share.shape) * weights
    by_class = joint_bgc.sum(dim=1)
    return by_class[:, -1] / by_class.sum(dim=1)


def independent_probability(
    logits: torch.Tensor, priors: tuple[tuple[float, ...], ...], group: torch.Tensor | None = None
) -> torch.Tensor:
    """Softmax of the mean logits over the groups, or of the logits of the image's own group if it is given.

    Logits [B, G * C], shares [G][C], group int64 [B] or [1], -1 unknown. Groups that lacked training
    images of a class are left out.
    """
    share = torch.tensor(priors, dtype=torch.float32).type_as(logits)
    learnt = (share > 0).all(dim=1)
    logits_bgc = logits.view(-1, *share.shape)
    mean_bc = logits_bgc[:, learnt].mean(dim=1)
    if group is not None:
        own_bg = (group[:, None] == torch.arange(len(priors)).type_as(group)) & learnt
        own_bc = torch.where(own_bg[:, :, None], logits_bgc, 0.0).sum(dim=1)
        mean_bc = torch.where(own_bg.any(dim=1, keepdim=True), own_bc, mean_bc)
    return mean_bc.softmax(dim=1)[:, -1]


@dataclass(frozen=True)
class PlainHead:
    """One softmax over the C classes; ignores tone groups.

    Attributes:
        num_classes: C.
        priors: fraction of each group and class [G][C] in training, for `decode` of group heads.
    """

    num_classes: int = 2
    priors: tuple[tuple[float, ...], ...] = ()

    by_group: ClassVar[bool] = False
    probability: ClassVar[Callable[..., torch.Tensor]] = staticmethod(plain_probability)

    def log_probabilities(self, logits_bk: torch.Tensor) -> torch.Tensor:
        """[B, G, C] in float32: log P(class) with a G of 1, log P(group, class), or
        log P(class | group), depending on the head."""
        return self._by_group(logits_bk).log_softmax(2)

    def log_likelihood(self, logp_bgc: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        """log P of the class of each image, and of its group if the head predicts groups, [B].

        Args:
            logp_bgc: result of `log_probabilities`.
            class_b, group_b: int64 [B]; group -1: unknown.
        """
        return self._of_class(logp_bgc, class_b)[:, 0]

    def mean_log_probability(self, logp_bgc: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        """Mean over the classes of log P of class and own group, [B]; label smoothing raises it.

        Other groups are excluded: with a discriminative head each pair would get the same share of every
        image, and for the rarest pairs the prior shift would make that share dominate the result.
        """
        return logp_bgc.mean(2)[:, 0]

    def predicted_class(self, logp_bgc: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        """The most likely class of each image, int64 [B]; within its own group for an independent head."""
        return logp_bgc.logsumexp(1).argmax(1)

    def decode(self, logits_bk: torch.Tensor, group_b: torch.Tensor | None = None) -> torch.Tensor:
        """P(malignant) before calibration, [B]; see melfast.models.decode."""
        return self.probability(logits_bk)

    def group_probabilities(self, logits_bk: torch.Tensor) -> torch.Tensor:
        """P(malignant | group) before calibration, float64 [B, G]: the softmax over the logits of the group,
        for a discriminative head after the prior shift within the group.

        NaN for a group without training images of one of the classes; [B, 0] for a plain head.
        """
        return logits_bk.new_empty((len(logits_bk), 0), dtype=torch.float64)

    def required_cells(self, known_gc: torch.Tensor) -> str:
        """What the head needs but training lacks, in words; '' if nothing is missing.

        Args:
            known_gc: training images of each known group and class [G, C].
        """
        return ""

    def _by_group(self, logits_bk: torch.Tensor) -> torch.Tensor:
        return logits_bk.float().unflatten(1, (-1, self.num_classes))

    def _of_class(self, logp_bgc: torch.Tensor, class_b: torch.Tensor) -> torch.Tensor:
        return logp_bgc.gather(2, class_b[:, None, None].expand(-1, logp_bgc.shape[1], 1))[..., 0]


class _GroupHead(PlainHead):
    """Common part of group heads: uses the group of the image if it is known, otherwise all groups."""

    by_group: ClassVar[bool] = True

    def log_likelihood(self, logp_bgc: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        by_group = self._of_class(logp_bgc, class_b)
        return _own_or(by_group, group_b, self._over_groups(by_group))

    def mean_log_probability(self, logp_bgc: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        return _own_or(logp_bgc.mean(2), group_b, self._mean_of_unknown(logp_bgc))

    def group_probabilities(self, logits_bk: torch.Tensor) -> torch.Tensor:
        share = torch.tensor(self.priors, dtype=torch.float64)
        learnt = (share > 0).all(dim=1)
        logits_bgc = self._shifted(logits_bk.double().view(-1, *share.shape), torch.where(learnt[:, None], share, 1))
        return torch.where(learnt, logits_bgc.softmax(dim=2)[:, :, -1], torch.nan)

    def required_cells(self, known_gc: torch.Tensor) -> str:
        return "" if known_gc.any() else "tone groups; no training image has one: melfast prepare ita"

    def _over_groups(self, logp: torch.Tensor) -> torch.Tensor:
        """log P(.) from log P per group, axis 1."""
        raise NotImplementedError

    def _mean_of_unknown(self, logp_bgc: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _shifted(self, logits_bgc: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return logits_bgc


class DomainDiscriminativeHead(_GroupHead):
    """One softmax over all G * C pairs of group and class, output group * C + class."""

    probability = staticmethod(discriminative_probability)

    def log_probabilities(self, logits_bk: torch.Tensor) -> torch.Tensor:
        logits_bgc = self._by_group(logits_bk)
        return logits_bgc.flatten(1).log_softmax(1).view_as(logits_bgc)

    def decode(self, logits_bk: torch.Tensor, group_b: torch.Tensor | None = None) -> torch.Tensor:
        return self.probability(logits_bk, self.priors)

    def required_cells(self, known_gc: torch.Tensor) -> str:
        missing = super().required_cells(known_gc)
        if missing or known_gc.any(dim=0).all():
            return missing
        return "malignant and benign images of known tone group in training"

    def _over_groups(self, logp: torch.Tensor) -> torch.Tensor:
        return logp.logsumexp(1)

    def _mean_of_unknown(self, logp_bgc: torch.Tensor) -> torch.Tensor:
        return logp_bgc.logsumexp(1).mean(1)

    def _shifted(self, logits_bgc: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return logits_bgc - share.log()


class DomainIndependentHead(_GroupHead):
    """A softmax over the classes for each group."""

    probability = staticmethod(independent_probability)

    def predicted_class(self, logp_bgc: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        return _own_or(logp_bgc, group_b, self._over_groups(logp_bgc)).argmax(1)

    def decode(self, logits_bk: torch.Tensor, group_b: torch.Tensor | None = None) -> torch.Tensor:
        return self.probability(logits_bk, self.priors, group_b)

    def required_cells(self, known_gc: torch.Tensor) -> str:
        missing = super().required_cells(known_gc)
        if missing or (known_gc > 0).all(dim=1).any():
            return missing
        return "a tone group with malignant and benign images in training"

    def _over_groups(self, logp: torch.Tensor) -> torch.Tensor:
        return logp.logsumexp(1) - math.log(logp.shape[1])

    def _mean_of_unknown(self, logp_bgc: torch.Tensor) -> torch.Tensor:
        return logp_bgc.mean(2).mean(1)


PLAIN = PlainHead()
HEADS: dict[Head, type[PlainHead]] = {
    "plain": PlainHead,
    "domain_discriminative": DomainDiscriminativeHead,
    "domain_independent": DomainIndependentHead,
}


def head_of(record: ModelRecord) -> PlainHead:
    """The head of a record."""
    return HEADS[record.head](len(record.classes), record.priors)


def _own_or(by_group: torch.Tensor, group_b: torch.Tensor, unknown: torch.Tensor) -> torch.Tensor:
    """The row of each image's own group, axis 1; `unknown` where the group is -1."""
    own = by_group[torch.arange(len(group_b), device=group_b.device), group_b.clamp_min(0)]
    return torch.where((group_b >= 0).view(-1, *[1] * (own.ndim - 1)), own, unknown)
