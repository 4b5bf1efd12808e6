"""Distribution Discriminative Auto-Selector: which task does an image belong to, if any? Built in notebook 06.

One small autoencoder a task learns to reconstruct features of that task's images, one more those of reference images.
What an autoencoder reconstructs badly is not of its kind. (The paper's DDAS.)
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .clip import batch_first, device_of, vision_blocks


class Autoencoder(nn.Module):
    """dim -> relu(code) -> dim. With `squash`, the output is a sigmoid, for features that are sigmoids too."""

    def __init__(self, dim, code, squash=True):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, code), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(code, dim), *([nn.Sigmoid()] if squash else []))

    def forward(self, features):
        return self.decoder(self.encoder(features))

    def error(self, features):
        """Mean squared reconstruction error of each sample. (B, dim) -> (B,)"""
        return (self(features) - features).pow(2).mean(dim=1)


class _Seen(Exception):
    """Ends a forward pass at the block whose output is wanted: the later blocks would be wasted time."""

    def __init__(self, output):
        super().__init__()
        self.output = output


def _stop_here(module, inputs, output):
    raise _Seen(output)


class _BlockOutput(nn.Module):
    """Patch tokens of the frozen image tower after one of its blocks, the class token left out."""

    def __init__(self, clip, block):
        super().__init__()
        self.clip = clip
        self.block = vision_blocks(clip)[block]

    def patches(self, images):
        """images (B, 3, H, W) -> (B, patches, D)"""
        hook = self.block.register_forward_hook(_stop_here)
        try:
            self.clip.encode_image(images)
        except _Seen as seen:
            return batch_first(self.block, seen.output)[:, 1:]
        finally:
            hook.remove()


class PatchFeatures(_BlockOutput):
    """The form of the paper, on CLIP's own patches instead of AlexNet's: sigmoid of all of them, in one row."""

    squash, code = True, 100

    def forward(self, images):
        return self.patches(images).flatten(1).sigmoid()  # (B, patches * D), in (0, 1)


class ChannelStatistics(_BlockOutput):
    """The look of an image rather than its content: mean and standard deviation of every channel over the patches."""

    squash, code = False, 64

    def forward(self, images):
        patches = self.patches(images)
        return torch.cat([patches.mean(dim=1), patches.std(dim=1)], dim=1)  # (B, 2 D)


FEATURES = {"statistics": ChannelStatistics, "patches": PatchFeatures}


def select_below(errors, threshold):
    """The paper's rule: the autoencoder with the smallest error, if that is at most the threshold; else none.

    errors (N, 1 + T), column 0 the reference -> LongTensor (N,): index of a task, or -1 for the original CLIP.
    The first of equal errors wins, as in the official code.
    """
    smallest, best = errors.min(dim=1)
    return torch.where(smallest > threshold, 0, best) - 1


def select_calibrated(errors, limits):
    """The better rule: errors relative to the reference's, against a limit for each task.

    errors (N, 1 + T), limits (T,) -> LongTensor (N,). An image that is hard for every autoencoder is no longer
    mistaken for an unknown one, and no number has to fit all tasks.
    """
    if errors.shape[1] == 1:
        return errors.new_full((len(errors),), -1, dtype=torch.long)
    relative = errors[:, 1:] / errors[:, :1] / limits  # (N, T): at most 1 where the task knows the image
    smallest, best = relative.min(dim=1)
    return torch.where(smallest > 1, -1, best)


class DDAS(nn.Module):
    """Autoencoder 0 for the reference images, autoencoder t + 1 for task t, and the rule that chooses.

    features: "statistics" or "patches" of the frozen CLIP after `block`. threshold: None calibrates a limit for each
    task on images kept apart from its training; a number is the paper's one threshold for all tasks (0.0655 there).
    granularity: "sample" decides for each image; "batch" for all images of a call at once, by the mean of their
    errors, as the official evaluation does: it needs batches of one task and flatters the method.
    """

    def __init__(
        self, clip, features="statistics", block=1, threshold=None, granularity="sample",
        iterations=300, learning_rate=3e-3, batch_size=128, quantile=0.99,
    ):  # fmt: skip
        super().__init__()
        if features not in FEATURES:
            raise ValueError(f"features {features!r} are unknown to DDAS; it has {sorted(FEATURES)}.")
        if granularity not in ("sample", "batch"):
            raise ValueError(f"granularity is 'sample' or 'batch', not {granularity!r}.")
        self.features = FEATURES[features](clip, block)
        self.threshold, self.granularity = threshold, granularity
        self.iterations, self.learning_rate, self.batch_size = iterations, learning_rate, batch_size
        self.quantile = quantile
        self.autoencoders = nn.ModuleList()
        self.register_buffer("mean", None)
        self.register_buffer("std", None)
        self.register_buffer("limits", torch.zeros(0))

    @torch.no_grad()
    def extract(self, images):
        """Features (B, dim) of images; once the reference is known, statistics are standardised by it."""
        features = self.features(images)
        if self.mean is not None:
            features = (features - self.mean) / self.std
        return features

    def _extract_all(self, dataset):
        device = device_of(self.features)
        return torch.cat([self.extract(x.to(device)) for x, _ in DataLoader(dataset, batch_size=256)])

    def learn_reference(self, dataset):
        """Train autoencoder 0 on the reference images; they also set the scale of the statistics."""
        features = self._extract_all(dataset)
        if not self.features.squash:
            self.mean, self.std = features.mean(dim=0), features.std(dim=0) + 1e-6
            features = (features - self.mean) / self.std
        self._learn(features)

    def learn_task(self, train, held_out):
        """Train the next task's autoencoder on `train`; its limit is set on `held_out`, images it never saw."""
        if not self.autoencoders:
            raise RuntimeError("DDAS knows no reference images yet: call learn_reference before learn_task.")
        self._learn(self._extract_all(train))
        own = self._errors_of(self._extract_all(held_out))
        limit = (own[:, -1] / own[:, 0]).quantile(self.quantile)
        self.limits = torch.cat([self.limits, limit[None]])

    def _learn(self, features):
        autoencoder = Autoencoder(features.shape[1], self.features.code, self.features.squash).to(features.device)
        optimiser = torch.optim.Adam(autoencoder.parameters(), lr=self.learning_rate, weight_decay=1e-4)
        for _ in range(self.iterations):
            batch = features[torch.randint(len(features), (self.batch_size,))]
            loss = F.mse_loss(autoencoder(batch), batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.autoencoders.append(autoencoder.requires_grad_(False))

    def _errors_of(self, features):
        return torch.stack([a.error(features) for a in self.autoencoders], dim=1)

    @torch.no_grad()
    def errors(self, images):
        """Reconstruction errors (B, 1 + tasks); column 0 belongs to the reference."""
        return self._errors_of(self.extract(images))

    def select(self, images):
        """For each image the index of the task that it seems to belong to, -1 for the original CLIP. LongTensor (B,)"""
        errors = self.errors(images)
        if self.granularity == "batch":
            errors = errors.mean(dim=0, keepdim=True)
        if self.threshold is None:
            chosen = select_calibrated(errors, self.limits)
        else:
            chosen = select_below(errors, self.threshold)
        return chosen.expand(len(images))

    def selector_state_dict(self):
        """Everything but the frozen CLIP: the autoencoders, the limits, the scale of the features."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("features.")}

    def load_selector_state_dict(self, state):
        """Take over what `selector_state_dict` gave; autoencoders are added as needed."""
        for name in ("mean", "std", "limits"):
            if name in state:
                setattr(self, name, state[name].to(device_of(self.features)))
        self.autoencoders = nn.ModuleList()
        while f"autoencoders.{len(self.autoencoders)}.encoder.0.weight" in state:
            code, dim = state[f"autoencoders.{len(self.autoencoders)}.encoder.0.weight"].shape
            self.autoencoders.append(Autoencoder(dim, code, self.features.squash))
        self.autoencoders.to(device_of(self.features)).requires_grad_(False)
        self.load_state_dict(state, strict=False)
