"""Visible checks of assignment A4: fresh random inputs against the library's selector and against plain counting."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from ...ddas import Autoencoder, ChannelStatistics, select_below, select_calibrated
from .base import not_one_of, same
from .graded import graded


def statistics(patches: Tensor) -> Tensor:
    """The library's statistics of patches that are there already. (B, P, D) -> (B, 2 D)"""

    class Given(ChannelStatistics):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def patches(self, images):
            return images

    return Given()(patches)


def standardised(values: Tensor, by: Tensor) -> Tensor:
    """Values (B, d) in units of the mean and the deviation of `by` (N, d)."""
    return (values - by.mean(dim=0)) / (by.std(dim=0) + 1e-6)


@graded
def check_standardised_statistics(function: Callable) -> None:
    for size, number, count, width in ((5, 30, 6, 3), (4, 20, 9, 4)):
        level, spread = 3 * torch.randn(width), torch.rand(width) + 0.5
        reference = level + spread * torch.randn(number, count, width) + torch.randn(number, 1, width)
        patches = level + 2 * torch.rand(width) * torch.randn(size, count, width) + torch.randn(size, 1, width)
        found = torch.as_tensor(function(patches.clone(), reference.clone()))
        shape = tuple(found.shape)
        assert shape == (size, 2 * width), f"the statistics have the shape {shape}, not {(size, 2 * width)}: (B, 2 D)."
        own, known = statistics(patches), statistics(reference)
        right = standardised(own, known)
        squared, known_squared = (torch.cat([v[:, :width], v[:, width:] ** 2], dim=1) for v in (own, known))
        faults = {
            "they are standardised by the batch itself: take the mean and the deviation of the reference images.": (
                standardised(own, own)
            ),
            "these are the plain statistics: standardise them by those of the reference images.": own,
            "the deviation of the reference is not divided by.": own - known.mean(dim=0),
            "the mean of the reference is not subtracted.": own / (known.std(dim=0) + 1e-6),
            "the deviations come first: means of all channels first, then their deviations.": right.roll(width, dims=1),
            "means and deviations alternate: all means first, then all deviations.": (
                right.view(size, 2, width).transpose(1, 2).flatten(1)
            ),
            "the variance is not the deviation: the root is missing.": standardised(squared, known_squared),
            "the PATCHES are standardised: take the statistics of an image first, and standardise these.": (
                statistics((patches - reference.mean(dim=(0, 1))) / reference.std(dim=(0, 1)))
            ),
            "divide by N - 1 in the deviation over the images (torch.std does), not by N.": (
                (own - known.mean(dim=0)) / (known.std(dim=0, unbiased=False) + 1e-6)
            ),
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {size} images of {count} patches the statistics", 1e-3)


def stacked(autoencoders: Sequence[Autoencoder]) -> list[Tensor]:
    """The parameters of A autoencoders: w_in (A, c, d), b_in (A, c), w_out (A, d, c), b_out (A, d)."""
    layers = [(a.encoder[0].weight, a.encoder[0].bias, a.decoder[0].weight, a.decoder[0].bias) for a in autoencoders]
    return [torch.stack(part).detach() for part in zip(*layers)]


def difference(
    weights: Sequence[Tensor],
    x: Tensor,
    target: Tensor,
    relu: Callable[[Tensor], Tensor] = torch.relu,
    last: Callable[[Tensor], Tensor] = torch.sigmoid,
    bias: float = 1.0,
) -> Tensor:
    """Output minus target (N, A, d) of all autoencoders for inputs x (N, d)."""
    w_in, b_in, w_out, b_out = weights
    hidden = relu(torch.einsum("nd,acd->nac", x, w_in) + bias * b_in)
    return last(torch.einsum("nac,adc->nad", hidden, w_out) + bias * b_out) - target[:, None]


@contextmanager
def without_autoencoder() -> Iterator[None]:
    """Whoever builds an Autoencoder inside gets a sentence."""

    def refuse(*_, **__):
        raise AssertionError("the function uses `Autoencoder`: write out what it computes instead.")

    with patch.object(Autoencoder, "__init__", refuse):
        yield


@graded
@torch.no_grad()
def check_paper_errors(function: Callable) -> None:
    for size, dim, code, number in ((5, 7, 4, 3), (3, 9, 2, 4)):
        autoencoders = [Autoencoder(dim, code, squash=True) for _ in range(number)]
        for autoencoder in autoencoders:
            for parameter in autoencoder.parameters():
                torch.nn.init.normal_(parameter)
        raw, (w_in, b_in, w_out, b_out) = 2 * torch.randn(size, dim), stacked(autoencoders)
        with without_autoencoder():
            found = torch.as_tensor(function(raw.clone(), w_in, b_in, w_out, b_out))
        shape = tuple(found.shape)
        assert shape != (number, size), "a row is an image and a column an autoencoder: (N, A), yours are exchanged."
        assert shape == (size, number), f"the errors have the shape {shape}, not {(size, number)}: (N, A)."

        s, off = raw.sigmoid(), partial(difference, (w_in, b_in, w_out, b_out))
        right = torch.stack([a.error(s) for a in autoencoders], dim=1)
        faults = {
            "the sigmoid at the end of the autoencoder is forgotten.": off(s, s, last=torch.clone).pow(2).mean(dim=2),
            "the features are sigmoids, too: one is forgotten before the autoencoder.": (
                off(raw, s).pow(2).mean(dim=2)
            ),
            "the output is compared with the raw numbers: compare it with their sigmoid.": (
                off(s, raw).pow(2).mean(dim=2)
            ),
            "the sigmoid of the features is forgotten.": off(raw, raw).pow(2).mean(dim=2),
            "no sigmoid anywhere: the features are sigmoids, and so is the output.": (
                off(raw, raw, last=torch.clone).pow(2).mean(dim=2)
            ),
            "the ReLU between encoder and decoder is forgotten.": off(s, s, relu=torch.clone).pow(2).mean(dim=2),
            "there is a sigmoid in place of the ReLU.": off(s, s, relu=torch.sigmoid).pow(2).mean(dim=2),
            "the biases are forgotten.": off(s, s, bias=0.0).pow(2).mean(dim=2),
            "this is the sum over the d numbers of an image: their mean is asked for.": off(s, s).pow(2).sum(dim=2),
            "this is the root of the error: leave it squared.": right.sqrt(),
            "these are absolute differences: square them.": off(s, s).abs().mean(dim=2),
            "the errors are a mean over the images: every image has its own.": right.mean(dim=0).expand(size, number),
            "the errors are a mean over the autoencoders: each has its own.": (
                right.mean(dim=1, keepdim=True).expand(size, number)
            ),
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {size} images and {number} autoencoders the errors", 1e-4)


def error_tables(sizes: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """For each task the errors of its images, (N_t, 1 + T), and which were held out; training images fit better."""
    tables, held_out = [], []
    for t, size in enumerate(sizes):
        part = (torch.arange(size) % 3 == 0)[torch.randperm(size)]
        errors = 0.5 + torch.rand(size, 1 + len(sizes))
        errors[:, t + 1] = (0.1 + 0.2 * torch.rand(size)) * (1 + part) * (1 + t) / 4
        tables.append(errors)
        held_out.append(part)
    return tables, held_out


def relative(table: Tensor, t: int) -> Tensor:
    """Error of task t's autoencoder over that of the reference. (N_t,)"""
    return table[:, t + 1] / table[:, 0]


def limits_of(
    tables: Sequence[Tensor], parts: Sequence[Tensor], q: float, score: Callable[[Tensor, int], Tensor] = relative
) -> Tensor:
    """The quantile q of the scores of each task's part. (T,)"""
    return torch.stack([score(table, t)[part].quantile(q) for t, (table, part) in enumerate(zip(tables, parts))])


@graded
def check_own_limits(function: Callable) -> None:
    for sizes, q in (((40, 60, 33), 0.9), ((50, 31), 0.8)):
        tables, held_out = error_tables(sizes)
        found = function([table.clone() for table in tables], [part.clone() for part in held_out], q)
        found = torch.as_tensor(found)
        shape, T = tuple(found.shape), len(sizes)
        assert shape == (T,), f"one limit for each of {T} tasks is asked for, not the shape {shape}."
        right, scores = limits_of(tables, held_out, q), [relative(x, t)[held_out[t]] for t, x in enumerate(tables)]
        own = limits_of(tables, held_out, q, lambda x, t: x[:, t + 1])
        faults = {
            "the limits are set on the training images: an autoencoder knows these too well.": (
                limits_of(tables, [~part for part in held_out], q)
            ),
            "the limits are set on all images: those of the training fit too well, take the held-out ones.": (
                limits_of(tables, [torch.ones_like(part) for part in held_out], q)
            ),
            "the quantile is taken from the wrong end: the share q lies BELOW the limit.": (
                limits_of(tables, held_out, 1 - q)
            ),
            "the reference is column 0, so task t has column t + 1.": (
                limits_of(tables, held_out, q, lambda x, t: x[:, t] / x[:, 0])
            ),
            "the error is not divided by that of the reference.": own,
            "the ratio is turned around: the error of the task over that of the reference.": (
                limits_of(tables, held_out, q, lambda x, t: x[:, 0] / x[:, t + 1])
            ),
            "this is the quotient of two quantiles: divide for each image, then take the quantile.": (
                own / limits_of(tables, held_out, q, lambda x, t: x[:, 0])
            ),
            "these are the largest errors: take the quantile q.": torch.stack([score.max() for score in scores]),
            "these are mean errors: take the quantile q.": torch.stack([score.mean() for score in scores]),
            "this is one limit for all tasks: each has its own.": torch.cat(scores).quantile(q).expand(T),
        }
        not_one_of(found, right, faults)
        same(found, right, f"with the quantile {q} the limits", 1e-4)


def in_doubt(relative: Tensor, margin: float) -> Tensor:
    """The task with the smallest relative error (N, T), -1 where that is above 1 or too close to the next. (N,)"""
    chosen = select_calibrated(torch.cat([torch.ones_like(relative[:, :1]), relative], dim=1), 1.0)
    if relative.shape[1] > 1:
        best, second = relative.topk(2, dim=1, largest=False).values.T
        chosen = torch.where(second >= margin * best, chosen, -1)
    return chosen


@graded
def check_choose_or_doubt(function: Callable) -> None:
    limits, hand = torch.tensor([0.5, 0.8]), torch.tensor([[0.6, 0.24, 0.24], [0.5, 0.1, 0.4], [0.5, 0.3, 0.5]])
    found = torch.as_tensor(function(hand, limits, 2.0))
    assert found.shape == (3,), f"for three images the answer has the shape {tuple(found.shape)}, not (3,)."
    assert found[1] != 1, "the reference is column 0, so task 0 has column 1: the answer counts tasks from 0."
    for T, margin in ((3, 1.5), (4, 1.2), (2, 2.0)):
        limits, N = 0.4 + torch.rand(T), 60
        errors = 0.4 + 4 * torch.rand(N, 1 + T)
        found = torch.as_tensor(function(errors.clone(), limits.clone(), margin))
        assert found.shape == (N,), f"for {N} images the answer has the shape {tuple(found.shape)}, not ({N},)."
        ratio, mean = errors[:, 1:] / errors[:, :1] / limits, errors.mean(dim=0, keepdim=True)
        right, task = in_doubt(ratio, margin), ratio.argmin(dim=1)
        best, second = ratio.topk(2, dim=1, largest=False).values.T
        faults = {
            "the limit is compared the wrong way: an image is known if its relative error is at most 1.": (
                torch.where((best >= 1) & (second >= margin * best), task, -1)
            ),
            "the margin is compared the wrong way: doubt is where the second comes CLOSE to the best.": (
                torch.where((best <= 1) & (second <= margin * best), task, -1)
            ),
            "the margin has no effect: where two tasks fit almost alike the answer is -1.": (
                select_calibrated(errors, limits)
            ),
            "the limit has no effect: an image that no task knows is sent to -1.": (
                torch.where(second >= margin * best, task, -1)
            ),
            "the margin is a factor: compare second with margin times best, not with best plus margin.": (
                torch.where((best <= 1) & (second >= margin + best), task, -1)
            ),
            "the limits of the tasks have no effect: divide by them before you compare.": (
                in_doubt(errors[:, 1:] / errors[:, :1], margin)
            ),
            "the error is not divided by that of the reference.": in_doubt(errors[:, 1:] / limits, margin),
            "all images get one answer: each is judged alone.": (
                in_doubt(mean[:, 1:] / mean[:, :1] / limits, margin).expand(N)
            ),
            "the second-best IMAGE is compared: compare the tasks of one image.": (
                torch.where((best <= 1) & (best.sort().values[1] >= margin * best), task, -1)
            ),
        }
        not_one_of(found, right, faults)
        for i in (found != right).nonzero().flatten()[:1]:
            shown = [round(r, 2) for r in ratio[i].tolist()]
            raise AssertionError(
                f"with the margin {margin} an image with the relative errors {shown} gets {right[i]}, not {found[i]}."
            )


@graded
def check_vote_by_user(function: Callable) -> None:
    for T, users in ((3, 12), (2, 9)):
        N, names = 8 * users, torch.randperm(90)[:users] + 10
        owner = names[torch.cat([torch.arange(users), torch.randint(1, users, (N - users,))])][torch.randperm(N)]
        errors = torch.rand(N, 1 + T)
        errors[owner == names[0], 1] = 0.0  # this user has one image, and it is of task 0
        errors[owner == names[1]] *= torch.cat([torch.tensor([0.2]), torch.full((T,), 0.4)])  # easy for everyone
        mean = torch.stack([errors[owner == name].mean(dim=0) for name in owner])  # (N, 1 + T)
        smallest, column = mean.min(dim=1)
        threshold = smallest.unique()[users // 2 - 1 :][:2].mean().item()  # half of the users are below
        found = torch.as_tensor(function(errors.clone(), owner.clone(), threshold))
        right, shape = select_below(mean, threshold), tuple(found.shape)
        assert shape != (users,), "every IMAGE gets an answer, that of its user: (N,)."
        assert shape == (N,), f"for {N} images the answer has the shape {shape}, not ({N},)."
        alone = select_below(errors, threshold)
        ballots = torch.stack([alone[owner == name].mode().values for name in owner])
        total = torch.stack([errors[owner == name].sum(dim=0) for name in owner])
        lowest = torch.stack([errors[owner == name].amin(dim=0) for name in owner])
        in_order = torch.stack([errors[8 * (n // 8) : 8 * (n // 8) + 8].mean(dim=0) for n in range(N)])
        faults = {
            "every image is judged alone: images of a user vote together.": alone,
            "all images of the batch vote together, though they are of different users.": (
                select_below(errors.mean(dim=0, keepdim=True), threshold).expand(N)
            ),
            "the images are voted on in the order in which they come: `user` says which belong together.": (
                select_below(in_order, threshold)
            ),
            "the errors are summed: a user with many images would be unknown. Take their mean.": (
                select_below(total, threshold)
            ),
            "single decisions are counted: take the mean of the ERRORS, then decide once.": ballots,
            "a user's best image decides: take the mean.": select_below(lowest, threshold),
            "the threshold is compared the wrong way: above it is unknown.": (
                torch.where(smallest < threshold, 0, column) - 1
            ),
            "the threshold has no effect: a smallest error above it means -1.": column - 1,
            "the reference has a column, too: it may win, and then the answer is -1.": (
                torch.where(mean[:, 1:].amin(dim=1) > threshold, -1, mean[:, 1:].argmin(dim=1))
            ),
            "the column is named: the reference has column 0, and task 0 has column 1.": (
                torch.where(smallest > threshold, -1, column)
            ),
        }
        not_one_of(found, right, faults)
        for i in (found != right).nonzero().flatten()[:1]:
            shown = [round(error, 3) for error in mean[i].tolist()]
            raise AssertionError(
                f"at the threshold {threshold:.3f} an image of a user with the mean errors {shown} gets {right[i]}, "
                f"not {found[i]}."
            )


def best_share(own: Tensor, others: Tensor, rate: float) -> float:
    """The largest share of own errors accepted (%), over all thresholds that accept at most `rate` % of the others."""
    found = [0.0]
    for x in [*own.tolist(), *others.tolist()]:
        if 100 * sum(y <= x for y in others.tolist()) <= rate * len(others):
            found.append(100 * sum(y <= x for y in own.tolist()) / len(own))
    return max(found)


@graded
def check_true_accepts_at(function: Callable) -> None:
    for n, m, rate in ((20, 30, 12.0), (30, 40, 6.0), (25, 25, 21.0)):
        own, others = torch.rand(n), 0.15 + 0.7 * torch.rand(m)
        found, right = float(function(own.clone(), others.clone(), rate)), best_share(own, others, rate)
        faults = {
            "this is a fraction: percent are asked for.": right / 100,
            "own and others are exchanged: the rate is that of the others.": best_share(others, own, rate),
            "the threshold is compared the wrong way: an image with a SMALL error is accepted.": (
                best_share(-own, -others, rate)
            ),
            "this is the share that is refused.": 100 - right,
            "the threshold is set on the own images: it follows from the others.": (
                100 * (own <= own.quantile(rate / 100)).double().mean().item()
            ),
            "this is the share of the others beyond the threshold: take it of the own images.": (
                100 * (others <= others.quantile(rate / 100)).double().mean().item()
            ),
            "the rate is in percent: 1 means one in a hundred.": best_share(own, others, 100 * rate),
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {n} own and {m} other images and the rate {rate} the share", 1e-3)
    found = float(function(torch.tensor([0.1, 0.5, 0.55, 0.9]), torch.tensor([0.3, 0.6]), 50.0))
    assert abs(found - 75) < 1e-3, (
        "own errors 0.1, 0.5, 0.55 and 0.9, others 0.3 and 0.6, rate 50: the threshold 0.55 accepts one of the two others, "
        f"which is AT MOST 50 percent, and 75 percent of the own, not {found:g}."
    )
