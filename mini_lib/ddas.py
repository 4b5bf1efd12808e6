"""Distribution Discriminative Auto-Selector: which task does an image belong to, if any? Built in notebook 06.

One small autoencoder a task learns to reconstruct features of that task's images, one more those of reference images.
What an autoencoder reconstructs badly is not of its kind. (The paper's DDAS.)
"""

import math
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.models import AlexNet_Weights, alexnet

from .clip import Noting, batch_first, check_images, device_of, vision_blocks, with_vision_blocks
from .embedded.checkpoints import check_digest, load_tensors
from .training import endless, loader

ALEXNET = AlexNet_Weights.IMAGENET1K_V1.url
KEEP = 2**30  # bytes of features that are kept in memory; those of a larger data set are computed batch by batch


class Autoencoder(nn.Module):
    """dim -> relu(code) -> dim. With `squash`, the output is a sigmoid, for features that are sigmoids too."""

    def __init__(self, dim: int, code: int, squash: bool = True):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, code), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(code, dim), *([nn.Sigmoid()] if squash else []))

    def forward(self, features: Tensor) -> Tensor:
        return self.decoder(self.encoder(features))

    def error(self, features: Tensor) -> Tensor:
        """Mean squared reconstruction error of each sample. (B, dim) -> (B,)"""
        return (self(features) - features).pow(2).mean(dim=1)


class _BlockOutput(nn.Module):
    """Patch tokens of the frozen image tower after one of its blocks, the class token left out."""

    def __init__(self, clip: nn.Module, block: int):
        super().__init__()
        self.clip, self.block = clip, range(len(vision_blocks(clip)))[block]

    def patches(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, patches, D)"""
        blocks = list(vision_blocks(self.clip))[: self.block + 1]  # the later ones would be wasted time
        last = blocks[-1] = Noting(blocks[-1])
        with_vision_blocks(self.clip, blocks).encode_image(images)
        return batch_first(last.module, last.take()[1])[:, 1:]


class PatchFeatures(_BlockOutput):
    """The form of the paper, on CLIP's own patches instead of AlexNet's: sigmoid of all of them, in one row."""

    squash, code = True, 100

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images).flatten(1).sigmoid()  # (B, patches * D), in (0, 1)


class ChannelStatistics(_BlockOutput):
    """The look of an image rather than its content: mean and standard deviation of every channel over the patches."""

    squash, code = False, 64

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images)
        return torch.cat([patches.mean(dim=1), patches.std(dim=1)], dim=1)  # (B, 2 D)


def _alexnet_file():
    """Where torch keeps AlexNet's weights, fetched where they are not there yet."""
    file = Path(torch.hub.get_dir(), "checkpoints", Path(ALEXNET).name)
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(ALEXNET, str(file), hash_prefix=file.stem.split("-")[-1])
        except Exception as error:  # of the network, the disk, or of torch, where another file comes, as from a proxy
            raise OSError(
                f"AlexNet's weights cannot be downloaded ({error}): fetch {ALEXNET} where there is a network, and put it into "
                f"{file.parent}, or pass the file as alexnet=FILE in the settings of DDAS."
            ) from error
    return file


class AlexNetFeatures(nn.Module):
    """The paper's own features: AlexNet's last convolution, before its ReLU, as a sigmoid. A second network.

    images (B, 3, 224, 224), normalised for CLIP as in the official code -> (B, 43264), in (0, 1). weights: "imagenet"
    (torchvision's, downloaded once to torch's cache), a file of them, or None for random ones. Raises OSError where they
    cannot be had, ValueError for a file that is damaged or holds others.
    """

    squash, code = True, 100

    def __init__(self, weights: str | Path | None = "imagenet"):
        super().__init__()
        network = alexnet(weights=None)
        if weights is not None:
            file = _alexnet_file() if weights == "imagenet" else Path(weights).expanduser()
            if file.name == Path(ALEXNET).name:
                check_digest(file)
            try:
                network.load_state_dict(load_tensors(file))
            except RuntimeError as error:
                raise ValueError(f"the weights in {file} are not those of torchvision's AlexNet.") from error
        self.convolutions = network.features[:-2].requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.convolutions(images).flatten(1).sigmoid()


def finite(values: Tensor, what: str) -> Tensor:
    """The same values, if all are finite. values: (N,) or (N, ...). Raises FloatingPointError with the first that is not."""
    bad = (~values.isfinite()).reshape(len(values), -1).any(dim=1).nonzero()
    if len(bad):
        raise FloatingPointError(
            f"the selector: {what} no finite number, the first is number {int(bad[0])} of {len(values)}."
        )
    return values


FEATURES = {"statistics": ChannelStatistics, "patches": PatchFeatures}


def select_below(errors: Tensor, threshold: float) -> Tensor:
    """The paper's rule: the autoencoder with the smallest error, if that is at most the threshold; else none.

    errors (N, 1 + T), column 0 the reference -> LongTensor (N,): index of a task, or -1 for the original CLIP.
    The first of equal errors wins, as in the official code.
    """
    smallest, best = errors.min(dim=1)
    return torch.where(smallest <= threshold, best, 0) - 1  # where the error is no number, too


def select_calibrated(errors: Tensor, limits: Tensor | float) -> Tensor:
    """The better rule: errors relative to the reference's, against a limit for each task.

    errors (N, 1 + T), limits (T,) -> LongTensor (N,). An image that is hard for every autoencoder is no longer
    mistaken for an unknown one, and no number has to fit all tasks.
    """
    if errors.shape[1] == 1:
        return errors.new_full((len(errors),), -1, dtype=torch.long)
    relative = errors[:, 1:] / errors[:, :1] / limits  # (N, T): at most 1 where the task knows the image
    smallest, best = relative.min(dim=1)
    return torch.where(smallest <= 1, best, -1)


def select_within(errors: Tensor, limits: Tensor | float) -> Tensor:
    """The rule "limits": among the tasks within their limit, the one with the least error; else none.

    errors (N, 1 + T), limits (T,) of the errors relative to the reference's -> LongTensor (N,). Where limits differ,
    as on photographs, the task with the widest takes the others' images by `select_calibrated`. (Built in notebook 15.)
    """
    if errors.shape[1] == 1:
        return errors.new_full((len(errors),), -1, dtype=torch.long)
    within = errors[:, 1:] / errors[:, :1] <= limits
    smallest, best = errors[:, 1:].masked_fill(~within, torch.inf).min(dim=1)
    return torch.where(smallest < torch.inf, best, -1)


RULES = {"limits": select_within, "ratio": select_calibrated, "threshold": select_below}


class DDAS(nn.Module):
    """Autoencoder 0 for the reference images, autoencoder t + 1 for task t, and the rule that chooses.

    features: "statistics" or "patches" of the frozen CLIP after `block`; "alexnet", the paper's, with the weights
    `alexnet`; or a module of your own with `squash` and `code` (clip may then be None). rule: "ratio" and "limits" calibrate
    a limit for each task on images kept apart from its training, see `select_calibrated` and `select_within`; "threshold"
    is the paper's, one `threshold` for all tasks (0.0655 there). By default "threshold" where there is one, else "ratio".
    granularity: "sample" decides for each image; "batch" for all images of a call at once, by the mean
    of their errors, as the official evaluation does: it needs batches of one task and flatters the method.
    reference_iterations: those of autoencoder 0, by default `iterations`. fresh: features are computed anew for every
    batch, so that random crops differ each time, instead of once for each image.
    """

    features: Any  # a module with squash and code
    autoencoders: Any  # a ModuleList of Autoencoder
    mean: Tensor | None
    std: Tensor | None
    limits: Tensor

    def __init__(
        self,
        clip: nn.Module | None,
        features: str | nn.Module = "statistics",
        block: int = 1,
        threshold: float | None = None,
        rule: str | None = None,
        granularity: str = "sample",
        iterations: int = 300,
        reference_iterations: int | None = None,
        learning_rate: float = 3e-3,
        batch_size: int = 128,
        quantile: float = 0.99,
        fresh: bool = False,
        alexnet: str | Path | None = "imagenet",
    ):
        super().__init__()
        if features == "alexnet":
            features = AlexNetFeatures(alexnet)
        elif not isinstance(features, nn.Module):
            if features not in FEATURES:
                raise ValueError(f"features {features!r} are unknown to DDAS; it has {sorted([*FEATURES, 'alexnet'])}.")
            if clip is not None and block not in range(-(count := len(vision_blocks(clip))), count):
                raise ValueError(f"block {block!r} is not there: the image tower has the blocks 0 to {count - 1}.")
            features = FEATURES[features](clip, block)
        if granularity not in ("sample", "batch"):
            raise ValueError(f"granularity is 'sample' or 'batch', not {granularity!r}.")
        self.rule = rule or ("ratio" if threshold is None else "threshold")
        if self.rule not in RULES or (self.rule == "threshold") == (threshold is None):
            raise ValueError(
                f"the rule of DDAS is 'limits' or 'ratio', without a threshold, or 'threshold' with one; not {rule!r} with "
                f"threshold={threshold!r}."
            )
        self.features = features
        self.threshold, self.granularity, self.quantile, self.fresh = threshold, granularity, quantile, fresh
        self.iterations, self.reference_iterations = iterations, reference_iterations or iterations
        self.learning_rate, self.batch_size = learning_rate, batch_size
        self._check_choices()
        self.autoencoders = nn.ModuleList()
        self.register_buffer("mean", None)
        self.register_buffer("std", None)
        self.register_buffer("limits", torch.zeros(0))
        if clip is not None:
            self.to(device_of(clip))

    @property
    def calibrates(self) -> bool:
        """Whether it sets a limit on validation images: without a threshold."""
        return self.threshold is None

    def _check_choices(self):
        """Raises ValueError for what would end in a selector that knows nothing, or everything."""
        for name in ("iterations", "reference_iterations", "batch_size"):
            if not (isinstance(value := getattr(self, name), int) and value >= 1):
                raise ValueError(f"{name} of DDAS is a whole number, at least 1, not {value!r}.")
        if not (isinstance(self.learning_rate, Real) and 0 < self.learning_rate < math.inf):
            raise ValueError(f"learning_rate of DDAS is a number above 0, not {self.learning_rate!r}.")
        if not (isinstance(self.quantile, Real) and 0 <= self.quantile <= 1):
            raise ValueError(f"quantile of DDAS lies between 0 and 1, and is not {self.quantile!r}.")
        if self.threshold is not None and not (isinstance(self.threshold, Real) and math.isfinite(self.threshold)):
            raise ValueError(f"threshold of DDAS is a number or None, not {self.threshold!r}.")

    @torch.no_grad()
    def extract(self, images: Tensor) -> Tensor:
        """Features (B, dim) of images; once the reference is known, statistics are standardised by it."""
        if isinstance(self.features, _BlockOutput):
            check_images(self.features.clip, images)
        features = self.features(images.to(self.limits.device))
        if self.mean is not None:
            features = (features - self.mean) / self.std
        return features

    def _extract_all(self, dataset: Any) -> Any:
        """The features (N, dim) of a data set; None where they do not fit, or are to be fresh for every batch."""
        if len(dataset) < 2:
            raise ValueError(
                f"DDAS learns from two images at least, better from some hundreds, not from {len(dataset)}."
            )
        kept = []
        for images, _ in loader(dataset, batch_size=256):
            kept.append(
                finite(self.extract(images), f"among images {len(kept) * 256} and following are features that are")
            )
            self.dim = kept[0].shape[1]
            if self.features.squash and (self.fresh or len(dataset) * kept[0][0].nbytes > KEEP):
                return None
        return torch.cat(kept)

    def _batches(self, dataset: Dataset, features: Any) -> Iterator[Tensor]:
        """Batches of features (B, dim) without end: drawn from `features`, or computed where these are None."""
        if features is None:
            for images, _ in endless(dataset, self.batch_size):
                yield self.extract(images)
        while features is not None:
            yield features[torch.randint(len(features), (self.batch_size,))]

    def learn_reference(self, dataset: Dataset) -> None:
        """Train autoencoder 0 on the reference images; they also set the scale of the statistics."""
        features = self._extract_all(dataset)
        if not self.features.squash:
            self.mean, self.std = features.mean(dim=0), features.std(dim=0) + 1e-6
            features = (features - self.mean) / self.std
        self._learn(dataset, features, self.reference_iterations)

    def learn_task(self, train: Dataset, held_out: Dataset | None = None) -> None:
        """Train the next task's autoencoder on `train`; its limit is set on `held_out`, images it never saw.

        With a threshold no limit is needed, and no `held_out`. Raises FloatingPointError where an image has features
        that are no finite numbers or the training diverges, ValueError for fewer than two images.
        """
        if not self.autoencoders:
            raise RuntimeError("DDAS knows no reference images yet: call learn_reference before learn_task.")
        if self.threshold is None and held_out is None:
            raise ValueError(
                "DDAS calibrates its limit on validation images, and this task has none: keep some apart "
                "(val_part=0.1 in mtil), or pass DDAS a threshold."
            )
        self._learn(train, self._extract_all(train), self.iterations)
        if self.threshold is None:
            own = torch.cat([self.errors(images) for images, _ in loader(held_out, batch_size=256)])
            limit = finite(own[:, -1] / own[:, 0], "errors of validation images are").quantile(self.quantile)
            self.limits = torch.cat([self.limits, limit[None]])

    def _learn(self, dataset, features, iterations):
        autoencoder = Autoencoder(self.dim, self.features.code, self.features.squash).to(self.limits.device)
        optimiser = torch.optim.Adam(autoencoder.parameters(), lr=self.learning_rate, weight_decay=1e-4)
        for _, batch in zip(range(iterations), self._batches(dataset, features)):
            loss = F.mse_loss(autoencoder(batch), batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        finite(
            nn.utils.parameters_to_vector(autoencoder.parameters()), "it diverged, lower its learning_rate: weights are"
        )
        self.autoencoders.append(autoencoder.requires_grad_(False))

    def _errors_of(self, features):
        if not self.autoencoders:
            raise ValueError("DDAS has learned nothing yet: call learn_reference, then learn_task for each task.")
        return torch.stack([a.error(features) for a in self.autoencoders], dim=1)

    @torch.no_grad()
    def errors(self, images: Tensor) -> Tensor:
        """Reconstruction errors (B, 1 + tasks); column 0 belongs to the reference."""
        return self._errors_of(self.extract(images))

    def select(self, images: Tensor) -> Tensor:
        """For each image the index of the task that it seems to belong to, -1 for the original CLIP. LongTensor (B,)"""
        errors = self.errors(images)
        if self.granularity == "batch":
            errors = errors.mean(dim=0, keepdim=True)
        limits = self.limits if self.threshold is None else self.threshold
        return RULES[self.rule](errors, limits).expand(len(images))

    def selector_state_dict(self) -> dict[str, Tensor]:
        """Everything but the frozen CLIP: the autoencoders, the limits, the scale of the features."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("features.")}

    def load_selector_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `selector_state_dict` gave; autoencoders are added as needed."""
        for name in ("mean", "std", "limits"):
            if name in state:
                setattr(self, name, state[name].to(self.limits.device))
        self.autoencoders = nn.ModuleList()
        while f"autoencoders.{len(self.autoencoders)}.encoder.0.weight" in state:
            code, dim = state[f"autoencoders.{len(self.autoencoders)}.encoder.0.weight"].shape
            self.autoencoders.append(Autoencoder(dim, code, self.features.squash))
        self.autoencoders.to(self.limits.device).requires_grad_(False)
        self.load_state_dict(state, strict=False)
