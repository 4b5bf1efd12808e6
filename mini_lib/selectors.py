"""Selectors: which learned task does an image belong to, if any? The closed form, without training.

A selector has learn_reference(dataset), learn_task(train, held_out), select(images) -> LongTensor (B,) with -1 for the
original CLIP, granularity "sample" or "batch", and selector_state_dict / load_selector_state_dict. `DDAS`, the paper's, is
another.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from .clip import Noting, batch_first, device_of, vision_blocks, with_vision_blocks
from .ddas import finite
from .training import loader

# What a GaussianSelector has learned: the reference's scale, its groups' means and their scatter within; the sum of squares
# within the classes of all tasks and the number of images; the classes' means, whose task each is of, and the limits.
STATE = ("mean", "std", "background", "within", "scatter", "count", "means", "owner", "limits")


class ClipStatistics(nn.Module):
    """An image's look and content: channel statistics after some blocks of the frozen CLIP, and its final feature.

    images (B, 3, H, W) -> (B, 2 W len(blocks) + D): mean and deviation over the patches of each channel of width W, and the
    unit feature. One pass through the image tower.
    """

    def __init__(self, clip: nn.Module, blocks: tuple[int, ...] = (1, -1)):
        super().__init__()
        places = range(len(vision_blocks(clip)))
        self.clip, self.blocks = clip, sorted({places[block] for block in blocks})

    def forward(self, images: Tensor) -> Tensor:
        blocks = list(vision_blocks(self.clip))
        for place in self.blocks:
            blocks[place] = Noting(blocks[place])
        final = with_vision_blocks(self.clip, blocks).encode_image(images)
        parts = []
        for place in self.blocks:
            patches = batch_first(blocks[place].module, blocks[place].take()[1])[:, 1:]
            parts += [patches.mean(dim=1), patches.std(dim=1)]
        return torch.cat([*parts, F.normalize(final, dim=-1)], dim=1)


class GaussianSelector(nn.Module):
    """Gaussians with one covariance: one for each class learned, and some for the reference images, the background.

    Features are standardised by the reference. Sigma is pooled within the classes of all tasks (Lee et al. 2018) and within
    the background's groups, which count as much as `prior` images; `shrinkage` of it is replaced by a multiple of the unit
    matrix. With the squared Mahalanobis distances

        d_t(x) = min over classes c of task t of (x - mu_c)^T Sigma^-1 (x - mu_c),   d_0(x) likewise over the background,

    the task is the one with the least d_t, and it is known if d_t(x) - d_0(x), the relative distance of Ren et al. (2021), is
    at most the task's limit, the `quantile` of its validation images. Nothing is kept but means, one scatter matrix and
    counts, so that neither the order of images nor that of tasks matters for Sigma. groups: of the background, found by
    k-means. granularity: "sample", or "batch", where all images of a call share the mean of their distances.
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

    def __init__(
        self,
        clip: nn.Module | None,
        features: nn.Module | None = None,
        blocks: tuple[int, ...] = (1, -1),
        quantile: float = 0.95,
        prior: float = 1000.0,
        shrinkage: float = 0.02,
        groups: int = 200,
        granularity: str = "sample",
    ):
        super().__init__()
        if granularity not in ("sample", "batch"):
            raise ValueError(f"granularity is 'sample' or 'batch', not {granularity!r}.")
        self.features: Any = ClipStatistics(clip, blocks) if features is None else features  # type: ignore
        self.quantile, self.prior, self.shrinkage, self.groups = quantile, prior, shrinkage, groups
        self.granularity = granularity
        for name in STATE:
            self.register_buffer(name, None)
        self.device = torch.device("cpu") if clip is None else device_of(clip)
        self._factor = None  # the Cholesky factor of Sigma, until something is learned

    @torch.no_grad()
    def extract(self, images: Tensor) -> Tensor:
        """Features (B, D) in double precision, standardised once the reference is known."""
        features = self.features(images.to(self.device)).double()
        return features if self.mean is None else (features - self.mean) / self.std

    def learn_reference(self, dataset: Dataset) -> None:
        """Learn the scale of the features and the background, from images that stand for none of the tasks."""
        features = self._extract_all(dataset, "reference")[0]
        self.mean, self.std = features.mean(dim=0), features.std(dim=0) + 1e-6
        self.set_background((features - self.mean) / self.std)

    def set_background(self, features: Tensor) -> None:
        """features (N, D), standardised: their groups' means, and the covariance within the groups."""
        group = k_means(features, min(self.groups, len(features)))
        self.background = torch.stack([features[group == g].mean(dim=0) for g in group.unique()])
        centred = features - self.background[group.unique(return_inverse=True)[1]]
        self.within = centred.T @ centred / len(features)
        dim = features.shape[1]
        self.scatter, self.count = features.new_zeros(dim, dim), torch.zeros((), dtype=torch.long)
        self.means, self.owner = features.new_zeros(0, dim), torch.zeros(0, dtype=torch.long)
        self.limits, self._factor = features.new_zeros(0), None

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
        task = len(self.limits)
        for label in labels.unique():
            own = features[labels == label]
            mean = own.mean(dim=0)
            self.scatter += (own - mean).T @ (own - mean)
            self.means = torch.cat([self.means, mean[None]])
            self.owner = torch.cat([self.owner, torch.tensor([task])])
        self.count += len(features)
        self._factor = None
        distances = self._distances_of(self._extract_all(held_out, "validation")[0])
        limit = (distances[:, -1] - distances[:, 0]).quantile(self.quantile)
        self.limits = torch.cat([self.limits, limit[None]])

    def covariance(self) -> Tensor:
        """Sigma (D, D): within the classes of all tasks and within the background's groups, shrunk."""
        pooled = (self.prior * self.within + self.scatter) / (self.prior + self.count)
        unit = torch.eye(len(pooled), dtype=pooled.dtype, device=pooled.device)
        return (1 - self.shrinkage) * pooled + self.shrinkage * pooled.trace() / len(pooled) * unit

    @torch.no_grad()
    def distances(self, images: Tensor) -> Tensor:
        """Squared Mahalanobis distances (B, 1 + tasks) to the background, column 0, and to the nearest class of each task."""
        return self._distances_of(self.extract(images))

    def _distances_of(self, features):
        if self._factor is None:
            self._factor = torch.linalg.cholesky(self.covariance())
        white, means = (
            torch.linalg.solve_triangular(self._factor, x.T, upper=False).T
            for x in (features, torch.cat([self.background, self.means]))
        )
        squared = torch.cdist(white, means).square()
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


def select_relative(distances: Tensor, limits: Tensor) -> Tensor:
    """The task with the least distance, if that is at most its limit above the background's; else none.

    distances (N, 1 + T), column 0 the background; limits (T,) -> LongTensor (N,): index of a task, or -1.
    """
    if distances.shape[1] == 1:
        return torch.full((len(distances),), -1)
    least, best = distances[:, 1:].min(dim=1)
    return torch.where(least - distances[:, 0] <= limits[best], best, -1)  # what is no number is not known either


def k_means(features: Tensor, groups: int) -> Tensor:
    """The group (N,) of each of the features (N, D), by k-means from a fixed seed."""
    from sklearn.cluster import KMeans  # loads in a second, and is needed once

    found = KMeans(groups, n_init=1, random_state=0).fit(features.cpu().numpy())
    return torch.from_numpy(found.labels_).long()
