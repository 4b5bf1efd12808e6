"""The Gaussian selector: its distances by hand, streaming, state, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from mini_lib import MoEClip
from mini_lib.clip import batch_first, vision_blocks
from mini_lib.selectors import (
    ClipStatistics,
    GaussianSelector,
    ReferenceStatistics,
    limit_of,
    relative,
    select_relative,
    statistics_of,
)


class Plain(nn.Module):
    """The first numbers of an image as its features."""

    def __init__(self, dim=2):
        super().__init__()
        self.dim = nn.Parameter(torch.tensor(float(dim)), requires_grad=False)

    def forward(self, images):
        return images.flatten(1)[:, : int(self.dim)]


def points(centre, count=200, seed=0, dim=2, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.tensor(centre).float() + spread * torch.randn(count, dim, generator=generator)
    return x


def dataset(*groups):
    x = torch.cat(groups)
    y = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(g) for g in groups]))
    return TensorDataset(x[:, :, None, None], y)


def selector(**settings):
    made = GaussianSelector(None, Plain(), prior=0, shrinkage=0, **settings)
    made.learn_reference(dataset(points((0, 0), 2000, spread=3.0)))
    return made


def test_the_rule_by_hand():
    distances = torch.tensor([[5.0, 2.0, 3.0], [5.0, 9.0, 4.0], [4.0, 3.0, 9.0], [float("nan")] * 3])
    assert torch.allclose(relative(distances)[0], torch.tensor([0.4, 0.6]).log())
    limits = torch.tensor([0.5, 1.0]).log()
    # least: task 0 (2 / 5 <= .5), task 1 (4 / 5 <= 1), task 0 (3 / 4 > .5), no number
    assert select_relative(distances, limits).tolist() == [0, 1, -1, -1]
    assert relative(torch.tensor([[1.0, 0.0]])).isfinite().all()  # an image that lies on a mean
    assert select_relative(torch.ones(2, 1), torch.zeros(0)).tolist() == [-1, -1]


def test_distances_by_hand():
    made = selector()
    made.learn_task(dataset(points((4, 0), 500, 1), points((-4, 0), 500, 2)), dataset(points((4, 0), 100, 3)))
    z = (made.extract(torch.tensor([[1.0, 2.0]])[:, :, None, None]))[0]
    precision = torch.linalg.inv(made.scatter / 1000)  # prior and shrinkage are 0
    by_hand = min(float((z - mu) @ precision @ (z - mu)) for mu in made.means)
    away = float(z @ precision @ z)  # the reference's mean, once it is standardised, is 0
    assert made.background.shape == (1, 2) and made.background.abs().max() < 1e-9
    found = made.distances(torch.tensor([[1.0, 2.0]])[:, :, None, None])[0].tolist()
    assert found == pytest.approx([away, by_hand], rel=1e-9)


def test_shrinkage_and_prior_by_hand():
    made = GaussianSelector(None, Plain(), prior=100.0, shrinkage=0.5)
    made.learn_reference(dataset(points((0, 0), 300)))
    made.learn_task(dataset(points((3, 0), 50, 1)), dataset(points((3, 0), 20, 2)))
    pooled = (100 * made.within + made.scatter) / 150
    assert torch.allclose(made.covariance(), 0.5 * pooled + 0.25 * pooled.trace() * torch.eye(2, dtype=torch.float64))


def test_streaming_equals_all_at_once_and_the_order_of_images_does_not_matter():
    tasks = [(points((6, 0), 300, 1), points((6, 6), 300, 2)), (points((-6, 0), 200, 3), points((-6, 6), 100, 4))]
    stream, shuffled = selector(), selector()
    for groups in tasks:
        stream.learn_task(dataset(*groups), dataset(groups[0][:50]))
        whole = dataset(*groups)
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(7))
        shuffled.learn_task(TensorDataset(*whole[order]), dataset(groups[0][:50]))
    z = [stream.extract(g[:, :, None, None]) for groups in tasks for g in groups]
    scatter = sum((g - g.mean(0)).T @ (g - g.mean(0)) for g in z)
    assert torch.allclose(stream.scatter, scatter, rtol=1e-10) and int(stream.count) == 900
    assert torch.allclose(stream.means, torch.stack([g.mean(0) for g in z])) and stream.owner.tolist() == [0, 0, 1, 1]
    for name in ("scatter", "means", "limits"):
        assert torch.allclose(getattr(stream, name), getattr(shuffled, name), rtol=1e-9), name


def test_it_finds_tasks_and_keeps_strangers_out():
    made = selector()
    near, far, strange = (points(c, 200, s, spread=0.5) for c, s in (((5, 0), 1), ((-5, 0), 2), ((0, 1), 3)))
    made.learn_task(dataset(near[:100]), dataset(near[100:150]))
    made.learn_task(dataset(far[:100]), dataset(far[100:150]))
    images = torch.cat([near[150:], far[150:], strange[150:]])[:, :, None, None]
    chosen = made.select(images)
    assert (chosen[:50] == 0).sum() >= 45 and (chosen[50:100] == 1).sum() >= 45 and (chosen[100:] == -1).sum() >= 45
    made.granularity = "batch"
    assert [made.select(images[i : i + 50]).unique().tolist() for i in (0, 50, 100)] == [[0], [1], [-1]]


def test_its_state_gives_it_back_to_the_bit():
    made, other = selector(), GaussianSelector(None, Plain(), prior=0, shrinkage=0)
    made.learn_task(dataset(points((4, 0), 100, 1)), dataset(points((4, 0), 50, 2)))
    other.load_selector_state_dict({k: v.clone() for k, v in made.selector_state_dict().items()})
    images = points((2, 0), 20, 5)[:, :, None, None]
    assert torch.equal(made.distances(images), other.distances(images))
    for learner in (made, other):
        learner.learn_task(dataset(points((-4, 0), 100, 3)), dataset(points((-4, 0), 50, 4)))
    assert torch.equal(made.distances(images), other.distances(images))


def test_what_it_refuses(clip):
    made = GaussianSelector(None, Plain())
    with pytest.raises(RuntimeError, match="has learned nothing yet: call learn_reference"):
        made.select(torch.zeros(2, 2, 1, 1))
    alike = dataset(torch.ones(60, 2))
    made.learn_reference(alike)
    with pytest.raises(ValueError, match="are the images all alike"):
        made.learn_task(alike, alike)
    made = GaussianSelector(None, Plain())
    with pytest.raises(RuntimeError, match="call learn_reference before learn_task"):
        made.learn_task(dataset(points((0, 0))), dataset(points((0, 0))))
    made.learn_reference(dataset(points((0, 0))))
    with pytest.raises(ValueError, match="sets its limit on validation images"):
        made.learn_task(dataset(points((0, 0))))
    bad = points((0, 0))
    bad[3, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="the first is number 3 of 200"):
        made.learn_task(dataset(bad), dataset(points((0, 0))))
    with pytest.raises(ValueError, match="granularity is 'sample' or 'batch'"):
        GaussianSelector(clip, granularity="image")
    for name, value in (("quantile", 1.5), ("shrinkage", "little"), ("prior", -1)):
        with pytest.raises(ValueError, match=f"{name} of the selector lies between 0 and"):
            GaussianSelector(clip, **{name: value})


def test_features_are_channel_statistics_and_the_unit_feature(clip):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noted = []
    handle = vision_blocks(clip)[0].register_forward_hook(lambda m, i, o: noted.append(batch_first(m, o)))
    final = clip.encode_image(images)
    handle.remove()
    found = ClipStatistics(clip, (0, -1))(images)
    width = noted[0].shape[-1]
    assert torch.allclose(found[:, :width], noted[0][:, 1:].mean(dim=1), atol=1e-6)
    assert torch.allclose(found[:, width : 2 * width], noted[0][:, 1:].std(dim=1), atol=1e-6)
    assert torch.allclose(found[:, -final.shape[1] :], nn.functional.normalize(final, dim=-1), atol=1e-6)
    assert found.shape == (3, 4 * width + final.shape[1]) and ClipStatistics(clip, (1, -1)).blocks == [1]


def test_the_limit_by_hand():
    far, near = torch.linspace(-200, -100, 101), torch.linspace(-50, 50, 101)
    assert limit_of(near, 0.95) == pytest.approx(45)
    assert limit_of(far, 0.95) == pytest.approx(0.6 * -105)  # a part of the way towards 0
    assert limit_of(far, 0.95, 0) == pytest.approx(-105)


def test_statistics_take_the_place_of_reference_images():
    images = points((1, 2), 500, spread=3.0)
    made, stored = selector(), selector()
    made.learn_reference(dataset(images))
    stored.learn_reference(statistics_of(stored.features, images))
    for learner in (made, stored):
        learner.learn_task(dataset(points((4, 0), 100, 1)), dataset(points((4, 0), 50, 2)))
    tried = points((2, 0), 20, 5)[:, :, None, None]
    assert torch.equal(made.distances(tried), stored.distances(tried))
    found = statistics_of(stored.features, images)
    both = statistics_of(stored.features, images, points((9, 9), 100, 8))
    assert found.background.shape == (1, 2) and both.background.shape == (2, 2)
    assert torch.equal(both.mean, found.mean) and torch.equal(both.std, found.std)  # the first kind sets the scale
    alone = (points((9, 9), 100, 8).double() - both.mean) / both.std
    assert torch.allclose(both.background[1], alone.mean(0))
    assert torch.allclose(both.within, (found.within + torch.cov(alone.T, correction=0)) / 2)  # kinds count alike
    other = replace(found, checksum=found.checksum + 1)
    with pytest.raises(ValueError, match="of another CLIP"):
        stored.learn_reference(other)
    with pytest.raises(ValueError, match="two at least"):
        statistics_of(stored.features, images[:1])
    long = ReferenceStatistics(torch.zeros(3), torch.ones(3), torch.zeros(1, 3), torch.eye(3), found.checksum)
    stored.learn_reference(long)
    with pytest.raises(ValueError, match="features have length 3, these 2"):
        stored.extract(tried)


def test_a_block_that_is_not_there_is_named(clip):
    with pytest.raises(ValueError, match="the image tower has the blocks 0 to 1: there is no block 2"):
        GaussianSelector(clip, blocks=(2,))
    with pytest.raises(ValueError, match="a tower has the blocks 0 to 1: there is no block 9"):
        MoEClip(clip, 2, 2, 4, image_at=[9])
