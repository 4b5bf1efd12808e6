"""Selectors: which learned task does an image belong to, if any? In closed form, without training. Built in notebook 15.

A selector has learn_reference(reference), learn_task(train, held_out), select(images) -> LongTensor (B,) with -1 for the
original CLIP, granularity "sample" or "batch", and selector_state_dict / load_selector_state_dict. `DDAS`, the paper's, is
another.
"""

import math
import weakref
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from .clip import Noting, batch_first, device_of, vision_blocks, with_vision_blocks
from .ddas import finite
from .training import checksum, loader

# What a GaussianSelector has learned: the reference's scale, the means of its kinds and the covariance within them; the sum
# of squares within the classes of all tasks and the number of images; the classes' means, their tasks, and the tasks' limits.
STATE = ("mean", "std", "background", "within", "scatter", "count", "means", "owner", "limits")


class ClipStatistics(nn.Module):
    """An image's look and content: channel statistics after some blocks of the frozen CLIP, and its final feature.

    images (B, 3, H, W) -> (B, 2 W len(blocks) + D): mean and deviation over the patches of each channel of width W, and the
    unit feature. One pass through the image tower, whose final features are kept for `kept`.
    """

    def __init__(self, clip: nn.Module, blocks: tuple[int, ...] = (1,)):
        super().__init__()
        places = range(len(vision_blocks(clip)))
        if absent := [block for block in blocks if not -len(places) <= block < len(places)]:
            raise ValueError(f"the image tower has the blocks 0 to {len(places) - 1}: there is no block {absent[0]}.")
        self.clip, self.blocks = clip, sorted({places[block] for block in blocks})
        self._last = None

    def forward(self, images: Tensor) -> Tensor:
        blocks = list(vision_blocks(self.clip))
        noting = {place: Noting(blocks[place]) for place in self.blocks}
        for place, block in noting.items():
            blocks[place] = block
        final = with_vision_blocks(self.clip, blocks).encode_image(images)
        self._last = weakref.ref(images), final
        parts = []
        for block in noting.values():
            patches = batch_first(block.module, block.take()[1])[:, 1:]
            parts += [patches.mean(dim=1), patches.std(dim=1)]
        return torch.cat([*parts, F.normalize(final, dim=-1)], dim=1)

    def kept(self, images: Tensor) -> Tensor | None:
        """The CLIP's features (B, D) of these images, not normalised, if they are the ones that were seen last; else None."""
        return self._last[1] if self._last and self._last[0]() is images else None


@dataclass
class ReferenceStatistics:
    """What a GaussianSelector keeps of reference images: enough to take their place, and no image can be had back from it.

    mean and std (D,) of the features; of the standardised ones the means of the kinds of reference images (K, D) and the
    covariance within them (D, D); and whose features they are: a checksum of the weights.
    """

    mean: Tensor
    std: Tensor
    background: Tensor
    within: Tensor
    checksum: int

    def fingerprint(self) -> str:
        """By which `run` knows them."""
        return f"statistics of {self.checksum}, {float(self.mean.double().sum()):.9g}, {float(self.std.double().sum()):.9g}"


class GaussianSelector(nn.Module):
    """Clouds with one covariance: one for each class learned, and one for each kind of reference images, the background.

    Features z are standardised by the reference. Sigma is pooled within the classes of all tasks (Lee et al. 2018) and within
    the kinds of the reference, which count as much as `prior` images; `shrinkage` of it is replaced by a multiple of the
    unit matrix. With

        d_t(z) = min over classes c of task t of (z - mu_c)^T Sigma^-1 (z - mu_c),    d_0(z) the same over the background,

    the task is the one with the least d_t, and it is known if log(d_t / d_0) is at most the task's limit: see `limit_of`.
    Ren et al. (2021) take the difference, which is right for Gaussians; the quotient is its counterpart for clouds with
    heavy tails, and bears reference images of another world. Nothing is kept but means, one scatter matrix and counts, so
    that neither the order of images nor that of tasks matters for Sigma. granularity: "sample", or "batch", where all images
    of a call share the mean of their distances. features: a module of one's own, images -> (B, D); clip may then be None.
    """

    mean: Any  # this and all of STATE: tensors, None before anything is learned
    std: Any
    background: Any
    within: Any
    scatter: Any
    count: Any
    means: Any
    owner: Any
    limits: Any
    calibrates = True  # sets a limit on validation images

    def __init__(
        self,
        clip: nn.Module | None,
        features: nn.Module | None = None,
        blocks: tuple[int, ...] = (1,),
        quantile: float = 0.9,
        prior: float = 1000.0,
        shrinkage: float = 0.02,
        granularity: str = "sample",
    ):
        super().__init__()
        if granularity not in ("sample", "batch"):
            raise ValueError(f"granularity is 'sample' or 'batch', not {granularity!r}.")
        for name, value, most in (("quantile", quantile, 1), ("shrinkage", shrinkage, 1), ("prior", prior, math.inf)):
            if not (isinstance(value, Real) and 0 <= value <= most):
                raise ValueError(f"{name} of the selector lies between 0 and {most}, and is not {value!r}.")
        self.features: Any = ClipStatistics(clip, blocks) if features is None else features  # type: ignore
        self.quantile, self.prior, self.shrinkage, self.granularity = quantile, prior, shrinkage, granularity
        for name in STATE:
            self.register_buffer(name, None)
        self.device = torch.device("cpu") if clip is None else device_of(clip)
        self._factor = None  # the Cholesky factor of Sigma, until something is learned

    @torch.no_grad()
    def extract(self, images: Tensor) -> Tensor:
        """Features (B, D) in double precision, standardised once the reference is known."""
        features = self.features(images.to(self.device)).double()
        if self.mean is None:
            return features
        if features.shape[1] != len(self.mean):
            raise ValueError(f"the reference's features have length {len(self.mean)}, these {features.shape[1]}.")
        return (features - self.mean) / self.std

    def learn_reference(self, reference: Any) -> None:
        """Learn the features' scale and the background from a data set of images of no task, or take their statistics.

        Raises ValueError for a single image, and for statistics of another CLIP's features.
        """
        self.mean = None  # raw features from here on
        if isinstance(reference, ReferenceStatistics):
            if reference.checksum != checksum(self.features):
                raise ValueError(
                    "the reference statistics are of another CLIP, or of features after other blocks: give reference images."
                )
            found = reference
        else:
            found = statistics_of(self.features, self._extract_all(reference, "reference")[0])
        for name in ("mean", "std", "background", "within"):
            setattr(self, name, getattr(found, name).double().to(self.device))
        dim = len(self.mean)
        self.scatter, self.count = torch.zeros_like(self.within), torch.zeros((), dtype=torch.long)
        self.means, self.owner = self.mean.new_zeros(0, dim), torch.zeros(0, dtype=torch.long)
        self.limits, self._factor = self.mean.new_zeros(0), None

    def learn_task(self, train: Dataset, held_out: Dataset | None = None) -> None:
        """Add the next task: its classes' means, its scatter within classes; its limit is set on `held_out`.

        Raises ValueError without images to set the limit on, FloatingPointError for an image whose features are no numbers.
        """
        if self.mean is None:
            raise RuntimeError("the selector knows no reference images yet: call learn_reference before learn_task.")
        if held_out is None:
            raise ValueError(
                "the selector sets its limit on validation images, and this task has none: keep some apart (val_part=0.1)."
            )
        features, labels = self._extract_all(train, "training")
        own = self._extract_all(held_out, "validation")[0]
        task = len(self.limits)
        for label in labels.unique():
            of_class = features[labels == label]
            mean = of_class.mean(dim=0)
            self.scatter += (of_class - mean).T @ (of_class - mean)
            self.means = torch.cat([self.means, mean[None]])
            self.owner = torch.cat([self.owner, self.owner.new_tensor([task])])  # resumed on a GPU it lies there
        self.count += len(features)
        self._factor = None
        distances = self._distances_of(own)
        limit = limit_of(relative(distances)[:, -1], self.quantile)
        self.limits = torch.cat([self.limits, limit[None]])

    def covariance(self) -> Tensor:
        """Sigma (D, D): within the classes of all tasks and the kinds of the reference, shrunk."""
        pooled = (self.prior * self.within + self.scatter) / (self.prior + self.count)
        unit = torch.eye(len(pooled), dtype=pooled.dtype, device=pooled.device)
        return (1 - self.shrinkage) * pooled + self.shrinkage * pooled.trace() / len(pooled) * unit

    @torch.no_grad()
    def distances(self, images: Tensor) -> Tensor:
        """Squared Mahalanobis distances (B, 1 + tasks): to the background's nearest mean, and to each task's nearest class."""
        return self._distances_of(self.extract(images))

    def _distances_of(self, features):
        if self.mean is None:
            raise RuntimeError(
                "the selector has learned nothing yet: call learn_reference, then learn_task for each task."
            )
        if self._factor is None:
            self._factor, failed = torch.linalg.cholesky_ex(self.covariance())
            if failed:
                raise ValueError(
                    "the covariance of the features has no inverse: are the images all alike, or shrinkage 0?"
                )
        centres = torch.cat([self.background, self.means])
        white, centres = (torch.linalg.solve_triangular(self._factor, x.T, upper=False).T for x in (features, centres))
        squared = torch.cdist(white, centres).square()
        owner = torch.cat([self.owner.new_full((len(self.background),), -1), self.owner])
        tasks = range(-1, int(self.owner.max()) + 1 if len(self.owner) else 0)
        return torch.stack([squared[:, owner == task].min(dim=1).values for task in tasks], dim=1)

    def select(self, images: Tensor) -> Tensor:
        """For each image the index of the task that it seems to belong to, -1 for the original CLIP. LongTensor (B,)"""
        distances = self.distances(images)
        if self.granularity == "batch":
            distances = distances.mean(dim=0, keepdim=True)
        return select_relative(distances, self.limits).expand(len(images))

    def selector_state_dict(self) -> dict[str, Tensor]:
        """What was learned: everything but the frozen CLIP."""
        return {name: getattr(self, name) for name in STATE if getattr(self, name) is not None}

    def load_selector_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `selector_state_dict` gave."""
        for name in STATE:
            setattr(self, name, state[name].to(self.device) if name in state else None)
        self._factor = None

    def _extract_all(self, dataset, what):
        """Features (N, D) and labels (N,) of a data set."""
        features, labels = [], []
        for images, of in loader(dataset, batch_size=256):
            features.append(self.extract(images))
            labels.append(of)
        if not features:
            raise ValueError(f"the selector was given no {what} images.")
        return finite(torch.cat(features), f"among the {what} images are features that are"), torch.cat(labels)


def statistics_of(module: nn.Module, *kinds: Tensor) -> ReferenceStatistics:
    """Of features (N, D) that the module gave, a tensor for each kind of reference images; the first one sets the scale.

    Kinds count alike, however many images they have. Raises ValueError for a single image.
    """
    if len(kinds[0]) < 2:
        raise ValueError(
            "the selector learns the scale of its features from reference images: two at least, better hundreds."
        )
    mean, std = kinds[0].double().mean(dim=0), kinds[0].double().std(dim=0) + 1e-6
    standard = [(features.double() - mean) / std for features in kinds]
    background = torch.stack([z.mean(dim=0) for z in standard])
    within = torch.stack([(z - m).T @ (z - m) / len(z) for z, m in zip(standard, background)]).mean(dim=0)
    return ReferenceStatistics(mean, std, background, within, checksum(module))


def relative(distances: Tensor) -> Tensor:
    """log(d_t / d_0) (N, T) of distances (N, 1 + T), column 0 the background; at 0 both explain an image equally."""
    logs = distances.clamp(min=1e-12).log()
    return logs[:, 1:] - logs[:, :1]


def limit_of(own: Tensor, quantile: float, towards: float = 0.4) -> Tensor:
    """A task's limit from log(d_t / d_0) (N,) of its own validation images: their quantile, a scalar.

    Where all of them lie below 0, there is room between the task and the background, and the limit moves a part of the
    way `towards` 0.
    """
    limit = own.quantile(quantile)
    return torch.maximum(limit, (1 - towards) * limit)


def select_relative(distances: Tensor, limits: Tensor) -> Tensor:
    """The task with the least distance, if log(d_t / d_0) is at most its limit; else none.

    distances (N, 1 + T), column 0 the background; limits (T,) -> LongTensor (N,): index of a task, or -1.
    """
    if distances.shape[1] == 1:
        return torch.full((len(distances),), -1)
    least, best = relative(distances).min(dim=1)
    return torch.where(least <= limits[best], best, -1)  # what is no number is not known either
