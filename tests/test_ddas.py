"""DDAS: the two rules by hand, learning, granularity, state."""

import pytest
import torch
from torch.utils.data import TensorDataset
from torchvision.models import AlexNet_Weights, alexnet

from mini_lib import ddas as ddas_module
from mini_lib.ddas import DDAS, AlexNetFeatures, Autoencoder, select_below, select_calibrated


def test_paper_rule_by_hand():
    errors = torch.tensor([[0.3, 0.1, 0.2], [0.3, 0.2, 0.1], [0.05, 0.1, 0.2], [0.3, 0.25, 0.2], [0.1, 0.1, 0.1]])
    assert select_below(errors, 0.15).tolist() == [0, 1, -1, -1, -1]  # last row: the reference wins the tie
    assert select_below(errors, 0.2).tolist() == [0, 1, -1, 1, -1]  # an error equal to the threshold is accepted


def test_calibrated_rule_by_hand():
    limits = torch.tensor([0.5, 0.8])
    errors = torch.tensor([[1.0, 0.4, 0.9], [1.0, 0.6, 0.7], [1.0, 0.6, 0.9], [10.0, 4.0, 4.0]])
    # relative to limits: (0.8, 1.1), (1.2, 0.9), (1.2, 1.1), (0.8, 0.5)
    assert select_calibrated(errors, limits).tolist() == [0, 1, -1, 1]
    assert select_calibrated(torch.ones(2, 1), torch.zeros(0)).tolist() == [-1, -1]


def test_what_is_no_number_goes_to_clip():
    nan = torch.full((2, 3), float("nan"))
    assert select_below(nan, 0.5).tolist() == select_calibrated(nan, torch.ones(2)).tolist() == [-1, -1]


def test_autoencoder_error_by_hand():
    autoencoder = Autoencoder(2, 1, squash=False)
    with torch.no_grad():
        for p in autoencoder.parameters():
            p.fill_(1.0)
    # code = relu(1 + 2 + 1) = 4, output = (5, 5), error = ((5-1)^2 + (5-2)^2) / 2
    assert autoencoder.error(torch.tensor([[1.0, 2.0]])).item() == 12.5


@pytest.fixture
def looks():
    """Three kinds of images that differ in look: noise, dark, striped."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(120, 3, 32, 32, generator=generator)
    dark = torch.randn(120, 3, 32, 32, generator=generator) * 0.05 - 0.9
    striped = torch.randn(120, 3, 32, 32, generator=generator) * 0.1 + torch.arange(32).remainder(4).sub(1.5)
    return [TensorDataset(x, torch.zeros(120).long()) for x in (noise, dark, striped)]


@pytest.mark.parametrize("features, threshold", [("statistics", None), ("patches", 0.02)])
def test_learns_looks(clip, looks, features, threshold):
    torch.manual_seed(0)
    ddas = DDAS(clip, features, block=1, threshold=threshold, iterations=100)
    noise, dark, striped = looks
    ddas.learn_reference(noise)
    x = torch.cat([d.tensors[0][:20] for d in looks])
    assert ddas.select(x).tolist() == [-1] * 60 and ddas.errors(x).shape == (60, 1)
    ddas.learn_task(dark, dark)
    assert ddas.errors(x).shape == (60, 2)
    if features == "statistics":
        chosen = ddas.select(x)
        assert chosen[:20].tolist() == [-1] * 20 and chosen[40:].tolist() == [-1] * 20
        assert (chosen[20:40] == 0).float().mean() >= 0.9
    ddas.learn_task(striped, striped)
    chosen = ddas.select(x)
    assert (chosen[20:40] == 0).float().mean() >= 0.9 and (chosen[40:] == 1).float().mean() >= 0.9

    again = DDAS(clip, features, block=1, threshold=threshold)
    again.load_selector_state_dict(ddas.selector_state_dict())
    assert torch.equal(again.errors(x), ddas.errors(x)) and torch.equal(again.select(x), chosen)


def test_batch_granularity_gives_one_answer(clip, looks):
    torch.manual_seed(0)
    ddas = DDAS(clip, block=1, iterations=50, granularity="batch")
    ddas.learn_reference(looks[0])
    ddas.learn_task(looks[1], looks[1])
    mostly_dark = torch.cat([looks[1].tensors[0][:30], looks[0].tensors[0][:2]])
    assert ddas.select(mostly_dark).shape == (32,) and len(ddas.select(mostly_dark).unique()) == 1
    assert ddas.select(looks[1].tensors[0][:8]).tolist() == [0] * 8


def test_bad_use(clip, looks):
    with pytest.raises(ValueError, match="features 'pixels' are unknown"):
        DDAS(clip, "pixels")
    with pytest.raises(ValueError, match="'sample' or 'batch'"):
        DDAS(clip, granularity="image")
    with pytest.raises(RuntimeError, match="learn_reference before"):
        DDAS(clip, block=1).learn_task(looks[0], looks[0])


def test_alexnet_features_are_those_of_the_paper(tmp_path):
    torch.manual_seed(0)
    network = alexnet(weights=None)
    torch.save(network.state_dict(), tmp_path / "alexnet.pth")
    features = AlexNetFeatures(tmp_path / "alexnet.pth")
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        found = features(images)
        before_relu = network.features[:-2](images)
    assert found.shape == (2, 43264) and torch.equal(found, before_relu.flatten(1).sigmoid())
    assert (before_relu < 0).any() and isinstance(network.features[-2], torch.nn.ReLU)
    autoencoder = Autoencoder(43264, AlexNetFeatures.code)
    assert sum(p.numel() for p in autoencoder.parameters()) == 8_696_164
    with pytest.raises(OSError, match="there is no file"):
        AlexNetFeatures(tmp_path / "none.pth")


def test_a_file_of_other_weights_is_no_alexnet(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth are not those of torchvision's AlexNet"):
        AlexNetFeatures(tmp_path / "other.pth")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch's cache, empty, and where AlexNet's weights belong in it."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch hub"))
    return tmp_path / "torch hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"


@pytest.mark.parametrize(
    "error", [OSError("no route to host"), RuntimeError("invalid hash value"), ValueError("cut off")]
)
def test_alexnet_without_a_network(cache, monkeypatch, error):
    def offline(url, file, hash_prefix):
        assert (file, hash_prefix) == (str(cache), "7be5be79") and cache.parent.is_dir()
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(
        OSError,
        match=f"cannot be downloaded .{error}.*alexnet.*pth.*into .*checkpoints, or pass the file as alexnet=FILE",
    ):
        AlexNetFeatures()


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b"", b"these are no weights", None])
def test_a_damaged_alexnet_is_named(cache, monkeypatch, content):
    """What a proxy gave, what a kill left, and weights that are not AlexNet's own: nothing of it is even opened."""
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was opened"))
    cache.parent.mkdir(parents=True)
    if content is None:
        torch.save(alexnet(weights=None).state_dict(), cache)
    else:
        cache.write_bytes(content)
    for weights in ("imagenet", cache):
        with pytest.raises(
            OSError, match="another file in its place.*SHA-256 is not the one in its name. Delete it and try"
        ) as caught:
            AlexNetFeatures(weights)
        assert str(caught.value).startswith(str(cache))


def test_alexnet_is_downloaded_once_and_taken_from_the_cache(cache, monkeypatch):
    network, calls = alexnet(weights=None), []

    def download(url, file, hash_prefix):
        calls.append(url)
        torch.save(network.state_dict(), file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(ddas_module, "check_digest", lambda file: None)
    images = torch.randn(1, 3, 224, 224)
    for _ in range(2):
        assert torch.equal(AlexNetFeatures()(images), network.features[:-2](images).flatten(1).sigmoid())
    assert calls == [AlexNet_Weights.IMAGENET1K_V1.url]


def test_features_computed_batch_by_batch(clip, looks, monkeypatch):
    noise, dark, _ = looks
    learned = []
    for keep, fresh in ((2**30, False), (1, False), (2**30, True)):  # stored, too large to store, fresh for each batch
        monkeypatch.setattr(ddas_module, "KEEP", keep)
        torch.manual_seed(0)
        learned.append(DDAS(clip, "patches", threshold=0.02, iterations=60, reference_iterations=80, fresh=fresh))
        learned[-1].learn_reference(noise)
        learned[-1].learn_task(dark)
        assert learned[-1].select(dark.tensors[0]).eq(0).all() and learned[-1].select(noise.tensors[0]).eq(-1).all()
    images = dark.tensors[0]
    assert torch.equal(learned[1].errors(images), learned[2].errors(images))
    assert not torch.equal(learned[0].errors(images), learned[1].errors(images))
    with pytest.raises(
        ValueError, match="this task has none: keep some apart .val_part=0.1 in mtil., or pass DDAS a thr"
    ):
        calibrated = DDAS(clip, iterations=2)
        calibrated.learn_reference(noise)
        calibrated.learn_task(dark)


def test_a_selector_that_has_learned_nothing_says_so(clip):
    with pytest.raises(ValueError, match="learned nothing yet: call learn_reference"):
        DDAS(clip).select(torch.zeros(2, 3, 32, 32))


def without(dataset, value, place=7):
    images, labels = dataset.tensors
    images = images.clone()
    images[place, 0, 0, 0] = value
    return TensorDataset(images, labels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_no_number_is_named_wherever_it_enters(clip, looks, value):
    noise, dark, _ = looks
    with pytest.raises(FloatingPointError, match="the selector: .* no finite number, the first is number 7 of 120"):
        DDAS(clip, iterations=2).learn_reference(without(noise, value))
    ddas = DDAS(clip, iterations=2)
    ddas.learn_reference(noise)
    for train, held_out, words in (
        (without(dark, value), dark, "features"),
        (dark, without(dark, value), "validation"),
    ):
        with pytest.raises(FloatingPointError, match=f"{words}.*the first is number 7 of 120"):
            ddas.learn_task(train, held_out)


def test_one_reference_image_is_too_few(clip, looks):
    noise, dark, _ = looks
    with pytest.raises(ValueError, match="from two images at least.*not from 1"):
        DDAS(clip, iterations=2).learn_reference(TensorDataset(*noise[:1]))
    ddas = DDAS(clip, iterations=2)
    ddas.learn_reference(noise)
    with pytest.raises(ValueError, match="from two images at least"):
        ddas.learn_task(TensorDataset(*dark[:1]), dark)


def test_an_autoencoder_that_diverges_is_told(clip, looks):
    with pytest.raises(FloatingPointError, match="lower its learning_rate"):
        DDAS(clip, iterations=30, learning_rate=1e30).learn_reference(looks[0])


@pytest.mark.parametrize(
    "choice",
    [
        {"iterations": 0}, {"iterations": -1}, {"iterations": 2.5}, {"reference_iterations": -3}, {"batch_size": 0},
        {"learning_rate": float("nan")}, {"learning_rate": 0}, {"quantile": 2}, {"quantile": float("nan")},
        {"threshold": float("nan")}, {"threshold": float("inf")}, {"block": 2}, {"block": -3},
    ],
)  # fmt: skip
def test_choices_that_would_select_all_or_nothing_are_refused(clip, choice):
    with pytest.raises(ValueError, match=f"{next(iter(choice))} .*not "):
        DDAS(clip, **choice)


@pytest.mark.parametrize("shape", [(2, 3, 40, 40), (2, 1, 32, 32), (2, 32, 32, 3), (3, 32, 32)])
def test_images_of_another_size_get_a_sentence(clip, looks, shape):
    ddas = DDAS(clip, iterations=2)
    ddas.learn_reference(looks[0])
    with pytest.raises(
        ValueError, match="this CLIP takes floating-point numbers, .images, 3, 32, 32.: prepare them with"
    ):
        ddas.select(torch.zeros(shape))
