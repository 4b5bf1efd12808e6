"""Immediate checks of the exercises: each takes the reader's function and says in one sentence what is right or wrong.

They compare with the library, or with numbers worked out by hand, on inputs made anew. Used at the end of notebooks 00-06.
"""

import math
from functools import wraps

import torch
from torch.nn import functional as F


def report(check):
    """Make a check print its verdict: an AssertionError's text, or that the function is right."""

    @wraps(check)
    def told(function):
        try:
            check(function)
        except NotImplementedError:
            print("... not written yet: put your code in place of `raise NotImplementedError`.")
        except AssertionError as fault:
            print(f"✗ {fault}")
        except Exception as error:
            print(f"✗ your function stopped with {type(error).__name__}: {error}")
        else:
            print(f"✓ {function.__name__} is right.")

    return told


def same(found, expected, what, tolerance=1e-5):
    """Assert that `found` is `expected` in form and value; `what` begins the sentence that says where it is not."""
    assert found is not None, f"{what} is None: does the function return it?"
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    assert found.shape == expected.shape, f"{what} has the shape {tuple(found.shape)}, not {tuple(expected.shape)}."
    near = torch.allclose(found.double(), expected.double(), atol=tolerance, rtol=tolerance)
    assert near, f"{what} should be {_short(expected)}, but is {_short(found)}."


def _short(tensor):
    return f"{tensor.item():.4g}" if tensor.ndim == 0 else str([round(v, 3) for v in tensor.double().flatten()[:6].tolist()])


def summary(rows):
    """Print the numbers that a text quotes beside those of this run; True if every one lies within its tolerance.

    rows: what -> (number of this run, number in the text, tolerance). Trained numbers differ a little between machines.
    """
    print(f"{'':46}{'in the text':>12}{'in this run':>13}")
    for what, (here, quoted, tolerance) in rows.items():
        print(f"{what:46}{quoted:12g}{here:13.1f}{'' if abs(here - quoted) <= tolerance else '   differs'}")
    return all(abs(here - quoted) <= tolerance for here, quoted, tolerance in rows.values())


# Notebook 04: a mixture of experts.


@report
def check_gates_from_probabilities(function):
    from .router import top_k_softmax

    for rows, experts, k in ((3, 5, 2), (4, 7, 3), (2, 4, 1), (2, 3, 3)):
        logits = 2 * torch.randn(rows, experts)
        p = logits.softmax(dim=1)
        before = p.clone()
        gates = function(p, k)
        assert gates is not None, "the gates are None: does the function return them?"
        assert gates.shape == p.shape, f"the gates have the shape {tuple(gates.shape)}, not {tuple(p.shape)}: (B, E)."
        assert torch.equal(p, before), "the function changes its input: work on a copy of p."
        kept = (gates > 0).sum(dim=1)
        assert (kept == k).all(), f"every row should keep {k} gates above 0, but rows keep {kept.tolist()}."
        sums = gates.sum(dim=1)
        assert torch.allclose(sums, torch.ones(rows), atol=1e-5), (
            f"the gates of a row should sum to 1, but sum to {sums[0]:.3f}: the k that were kept are not renormalised."
        )
        same(gates, top_k_softmax(logits, k), "the gates (divide the kept ones by their sum; no second softmax)")


@report
def check_switch_loss(function):
    from .router import top_k_softmax

    even = torch.full((8, 4), 0.25)
    same(function(even, torch.eye(4).repeat(2, 1)), 1.0, "with all experts alike the loss (sum and mean, factor N_E)")
    for rows, experts, k in ((6, 4, 1), (9, 5, 2), (16, 8, 3)):
        logits = torch.randn(rows, experts) + torch.linspace(0, 2, experts)
        p, gates = logits.softmax(dim=1), top_k_softmax(logits, k)
        share = (gates > 0).sum(dim=0) / (rows * k)
        importance = (gates.sum(dim=0) / rows * p.mean(dim=0)).sum() * experts
        found = function(p, gates)
        assert found is not None, "the loss is None: does the function return it?"
        assert torch.as_tensor(found).ndim == 0, "the loss should be one number."
        if k > 1 and torch.isclose(torch.as_tensor(found), importance, atol=1e-6):
            raise AssertionError("f should be counted: every choice counts 1, whatever its gate.")
        if k > 1 and torch.isclose(torch.as_tensor(found), k * experts * (share * p.mean(dim=0)).sum(), atol=1e-6):
            raise AssertionError(f"f should sum to 1: with k = {k} there are {k} choices a row.")
        same(found, experts * (share * p.mean(dim=0)).sum(), "the loss (N_E times the sum of f_i P_i)")


@report
def check_block_parameters(function):
    from .adapter import Adapter
    from .moe import MoEAdapter

    for width, experts, tasks, k, bottleneck in ((6, 4, 3, 2, 5), (16, 3, 1, 1, 2), (9, 5, 2, 3, 7)):
        block = MoEAdapter(width, experts, k, bottleneck)
        for _ in range(tasks):
            block.add_router()
        everything = sum(p.numel() for p in block.parameters())
        expert = sum(p.numel() for p in Adapter(width, bottleneck).parameters())
        found = function(width, experts, tasks, k, bottleneck)
        assert isinstance(found, tuple) and len(found) == 2, "the function should return two numbers: all, active."
        hints = {
            tasks * width * experts: " (each router has two matrices: the gate's and the noise's)",
            experts * (width + bottleneck): " (both projections have a bias)",
            (tasks - 1) * 2 * width * experts: " (there is one router a task)",
        }
        hint = hints.get(everything - found[0], "")
        assert found[0] == everything, f"all parameters should be {everything}, not {found[0]}{hint}."
        active = k * expert + width * experts
        hint = " (a sample meets only k experts)" if found[1] >= experts * expert else ""
        if abs(found[1] - active) == width * experts:
            noise, gate = "in evaluation there is no noise, so its matrix is not used", "the gate itself is read, too"
            hint = f" ({noise if found[1] > active else gate})"
        assert found[1] == active, f"active parameters should be {active}, not {found[1]}{hint}."


# ---------------------------------------------------------------------------------------------------------------
# Notebook 01


@report
def check_text_to_image_loss(function):
    generator = torch.Generator()
    generator.seed()
    images, texts = torch.randn(2, 7, 5, generator=generator)
    units = [F.normalize(x, dim=-1) for x in (images, texts)]
    labels = torch.arange(7)
    logits = 9.0 * units[1] @ units[0].T
    expected, other = F.cross_entropy(logits, labels), F.cross_entropy(logits.T, labels)
    found = function(images, texts, 9.0)
    assert found is not None, "the loss is None: does the function return it?"
    found = torch.as_tensor(found)
    assert found.shape == (), f"the loss is one number, a mean; yours has the shape {tuple(found.shape)}."
    for wrong, fault in (
        (other, "that is the other direction, image to text: here the softmax runs over the images"),
        ((other + expected) / 2, "that is both directions; only text to image is asked for"),
        (F.cross_entropy(9.0 * texts @ images.T, labels), "the features are not made unit vectors first"),
        (F.cross_entropy(logits / 9.0, labels), "the scale is missing"),
        (F.cross_entropy(logits / 81.0, labels), "the scale multiplies the cosines; yours divides them"),
        (7 * expected, "the mean over the captions is asked for, not the sum"),
    ):
        assert not torch.allclose(found, wrong, rtol=1e-4), f"{fault}."
    same(found, expected, "the loss")


@report
def check_weighted_class_vector(function):
    generator = torch.Generator()
    generator.seed()
    features = torch.randn(4, 6, generator=generator) * torch.tensor([[9.0], [1.0], [3.0], [0.2]])
    weights = torch.rand(4, generator=generator) + torch.tensor([0.1, 2.0, 0.1, 1.0])
    units = F.normalize(features, dim=-1)
    found = function(features, weights)
    assert found is not None, "the class vector is None: does the function return it?"
    assert tuple(found.shape) == (6,), f"the class vector has the shape (D,), here (6,); yours has {tuple(found.shape)}."
    for wrong, fault in (
        (F.normalize(weights @ features, dim=0), "make each vector unit BEFORE the mean, or long ones count more"),
        (F.normalize(units.mean(0), dim=0), "the weights have no effect"),
    ):
        assert not torch.allclose(found, wrong, atol=1e-4), f"{fault}."
    length = found.norm().item()
    assert abs(length - 1) < 1e-4, f"the length of the class vector is {length:.3f}: make it unit AFTER the mean, too."
    same(found, F.normalize(weights @ units, dim=0), "the class vector")


@report
def check_calibration_error(function):
    one = function(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]]), torch.tensor([0, 1, 1, 1]), 10)
    assert one is not None, "the error is None: does the function return it?"
    one = float(one)
    assert abs(one - 35) > 1e-3, "give a fraction between 0 and 1, not percent."
    assert abs(abs(one) - 0.05) > 1e-4, "take the ABSOLUTE difference in each bin, before bins are added up."
    assert abs(one - 0.35) < 1e-4, (
        "two answers with 0.9, half of them right, and two with 0.7, both right: the error is "
        f"(2 * |0.5 - 0.9| + 2 * |1 - 0.7|) / 4 = 0.35, but yours is {one:.4g}."
    )
    sure = float(function(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]), 10))
    assert abs(sure - 0.5) < 1e-4, f"a confidence of exactly 1 is in the last bin; the error is 0.5 here, yours is {sure:.4g}."
    generator = torch.Generator()
    generator.seed()
    probabilities = (3 * torch.randn(300, 6, generator=generator)).softmax(1)
    labels = torch.randint(0, 6, (300,), generator=generator)
    confidence, answer = probabilities.max(1)
    which, right = (confidence * 7).long().clamp(max=6), (answer == labels).float()
    gaps = torch.stack([(right - confidence)[which == i].sum().abs() for i in range(7)])
    sizes = torch.stack([(which == i).sum() for i in range(7)])
    found = torch.as_tensor(function(probabilities, labels, 7))
    unweighted = (gaps / sizes.clamp(min=1))[sizes > 0].mean()
    assert not torch.allclose(found.float(), unweighted, atol=1e-4), "weight each bin by its share of the images."
    same(found.float(), gaps.sum() / 300, "with 7 bins, the error", tolerance=1e-4)


@report
def check_most_forgotten(function):
    hand = torch.tensor([[90.0, 40, 30], [70, 80, 20], [60, 75, 95]])  # drops 30, 5, 0
    found = function(hand)
    assert found is not None, "the answer is None: does the function return it?"
    assert int(found) == 0, f"in [[90, 40, 30], [70, 80, 20], [60, 75, 95]] the drops are 30, 5, 0: task 0, not {int(found)}."
    for _ in range(20):
        matrix = 100 * torch.rand(5, 5)
        drops = matrix.diagonal() - matrix[-1]
        found = int(function(matrix))
        assert found != int(drops.argmin()), "the answer is the smallest drop: is a sign turned around?"
        assert found == int(drops.argmax()), f"for the drops {drops.tolist()} the answer is {int(drops.argmax())}, not {found}."


@report
def check_zero_shot_change(function):
    hand = torch.tensor([[90.0, 40, 30], [70, 80, 20], [60, 85, 95]])
    same(function(hand, torch.tensor([50.0, 50, 50])), -20.0, "with 40, 30, 20 above the diagonal and zero-shot 50 the mean")
    for size in (2, 4, 7):
        matrix, zero_shot = 100 * torch.rand(size, size), 100 * torch.rand(size)
        cells = [matrix[i, j] - zero_shot[j] for j in range(size) for i in range(j)]
        found = function(matrix, zero_shot)
        rows = sum(matrix[i, j] - zero_shot[i] for j in range(size) for i in range(j)) / len(cells)
        if size > 2 and found is not None and torch.isclose(torch.as_tensor(found), rows, atol=1e-4):
            raise AssertionError("zero-shot is subtracted by rows: it has one number a column.")
        same(found, sum(cells) / len(cells), "the mean over all cells above the diagonal (the diagonal left out)", 1e-4)


@report
def check_adapter_parameters(function):
    for widths, r in (([4], 2), ([128] * 4 + [128] * 3, 64), (torch.randint(5, 40, (6,)).tolist(), 3)):
        found = function(widths, r)
        matrices, both = sum(2 * D * r for D in widths), sum(2 * D * r + r + D for D in widths)
        where = f"for the widths {widths} and the bottleneck {r}"
        assert found is not None, "the answer is None: does the function return it?"
        assert found != matrices, f"{where} you count the two matrices, but not the biases: r of them below, D above."
        assert found * 2 != matrices, f"{where} you count one of the two matrices."
        assert found != sum(2 * (D * r + r) for D in widths), f"{where} the bias of the up-projection has D numbers."
        assert found != sum(2 * (D * r + D) for D in widths), f"{where} the bias of the down-projection has r numbers."
        assert found == both, f"{where} the count is {both}, not {found}."


@report
def check_adapter_forward(function):
    for shape, r, scale in (((3, 4), 2, 0.1), ((2, 5, 8), 3, 0.25), ((1, 6), 6, 2.0)):
        width, x = shape[-1], torch.randn(shape)
        down, up = (torch.randn(r, width), torch.randn(r)), (torch.randn(width, r), torch.randn(width))
        found = function(x, *down, *up, scale)
        hidden = x @ down[0].T + down[1]
        right = scale * (hidden.relu() @ up[0].T + up[1])
        wrong = {
            "the scale is missing.": right / scale,
            "the scale must multiply the bias of the up-projection as well.": right + (1 - scale) * up[1],
            "the ReLU is missing between the two projections.": scale * (hidden @ up[0].T + up[1]),
            "the ReLU stands after the up-projection, not between.": scale * (hidden @ up[0].T + up[1]).relu(),
            "x is added inside; the adapter gives only what is added, and the block adds it to x.": x + right,
            "the biases are missing.": scale * ((x @ down[0].T).relu() @ up[0].T),
        }  # fmt: skip
        for fault, values in wrong.items():
            if found is not None and found.shape == right.shape:
                assert not torch.allclose(found, values, atol=1e-4), fault
        same(found, right, f"for x {tuple(shape)} the result", tolerance=1e-4)


@report
def check_merged(function):
    for width, r, scale in ((4, 2, 0.1), (9, 3, 0.5)):
        x = torch.randn(7, width)
        down, up = (torch.randn(r, width), torch.randn(r)), (torch.randn(width, r), torch.randn(width))
        found = function(*down, *up, scale)
        assert isinstance(found, tuple) and len(found) == 2, "return two tensors, the weight (D, D) and the bias (D,)."
        weight, bias = found
        assert weight.shape == (width, width), f"the weight has the shape {tuple(weight.shape)}, not {(width, width)}."
        assert bias.shape == (width,), f"the bias has the shape {tuple(bias.shape)}, not {(width,)}."
        right = scale * up[0] @ down[0]
        turned = torch.allclose(weight, right.T, atol=1e-4)
        assert not turned, "the weight is turned around: down acts first, so it stands right."
        assert not torch.allclose(weight, right / scale, atol=1e-4), "the scale is missing in the weight."
        same(weight, right, f"with D = {width} and r = {r} the weight", tolerance=1e-4)
        assert not torch.allclose(bias, scale * up[1], atol=1e-4), "the bias of down passes through up, too."
        assert not torch.allclose(bias, up[0] @ down[1] + up[1], atol=1e-4), "the scale is missing in the bias."
        unmerged = scale * ((x @ down[0].T + down[1]) @ up[0].T + up[1])
        same(x @ weight.T + bias, unmerged, "for random x the merged layer", tolerance=1e-3)


# ---------------------------------------------------------------------------------------------------------------
# Notebook 02


def _random_accuracies(tasks):
    """Accuracies in percent (T, T), new in every call even where the seed is fixed."""
    generator = torch.Generator()
    generator.seed()
    return 100 * torch.rand(tasks, tasks, generator=generator, dtype=torch.float64)


def _not_one_of(found, right, faults):
    """Assert that `found`, where it is not `right`, is none of the wrong answers; faults: sentence -> wrong answer."""

    def equal(one, other):
        one, other = torch.as_tensor(one).double(), torch.as_tensor(other).double()
        return one.shape == other.shape and torch.allclose(one, other, atol=1e-6)

    if found is not None and not equal(found, right):
        for fault, wrong in faults.items():
            assert not equal(found, wrong), fault


@report
def check_rate_with_floor(function):
    for iterations, lr, warmup, floor in ((12, 1.0, 4, 0.1), (50, 0.3, 5, 0.02), (9, 2.0, 0, 0.5)):
        for step in range(iterations + 1):
            fall = (1 + math.cos(math.pi * (step - warmup) / (iterations - warmup))) / 2
            right = lr * (step + 1) / warmup if step < warmup else floor + (lr - floor) * fall
            found = function(step, iterations, lr, warmup, floor)
            faults = {}
            if step < warmup:
                faults["the first step is number 0, and its rate is lr / warmup, not 0."] = lr * step / warmup
                risen = floor + (lr - floor) * (step + 1) / warmup
                faults["the warm-up is the same as before: the floor has no part in it."] = risen
            else:
                faults["the cosine should fall from lr to the floor; yours starts at lr + floor."] = floor + lr * fall
                faults["the cosine runs over the steps after the warm-up only."] = (
                    floor + (lr - floor) * (1 + math.cos(math.pi * step / iterations)) / 2
                )
                faults["the curve is cut off at the floor; let the whole cosine end there."] = max(floor, lr * fall)
            _not_one_of(found, right, faults)
            where = f"at step {step} of {iterations}, with {warmup} of warm-up, lr {lr} and floor {floor}, the rate"
            same(found, right, where, 1e-9)


@report
def check_transfer(function):
    for tasks in (3, 4, 7):
        a = _random_accuracies(tasks)
        right = torch.stack([a[:j, j].mean() for j in range(1, tasks)]).mean()
        found = function(a.clone())
        _not_one_of(found, right, {
            "the diagonal is counted. Column j has the rows BEFORE task j only: a[:j, j].": torch.stack(
                [a[: j + 1, j].mean() for j in range(1, tasks)]).mean(),
            "this is the mean over all cells above the diagonal. First take the mean of each column, then of those.":
                a[torch.ones(tasks, tasks).triu(1).bool()].mean(),
            "this reads below the diagonal: rows are the task learned last, columns the task tested.": torch.stack(
                [a[j, :j].mean() for j in range(1, tasks)]).mean(),
            "there are T - 1 columns to average over, not T: the first task has nothing above the diagonal.":
                right * (tasks - 1) / tasks,
            "this is a mean over rows. One number a column comes first.": torch.stack(
                [a[i, i + 1 :].mean() for i in range(tasks - 1)]).mean(),
        })  # fmt: skip
        same(found, right, f"for {tasks} tasks Transfer")


@report
def check_forgetting(function):
    for tasks in (4, 5, 7):
        a = _random_accuracies(tasks)
        a[-1, 0] = 99.5 if tasks == 5 else 0.5  # once a task that ends above all it was before
        last = tasks - 1
        best = torch.stack([a[j:last, j].max() for j in range(last)])
        right = best - a[last, :last]
        found = function(a.clone())
        form = getattr(found, "shape", None)
        assert form != (tasks,), "nothing came after the last task, so it has no forgetting: return T - 1 numbers."
        _not_one_of(found, right, {
            "the sign is turned around: points LOST are positive.": -right,
            "this counts from the diagonal. A task can be at its best later: take the maximum since it was learned.":
                a.diagonal()[:last] - a[last, :last],
            "the last row is among those of the maximum, so that a task that gained shows 0, not its gain.":
                torch.stack([a[j:, j].max() for j in range(last)]) - a[last, :last],
            "the maximum goes over the whole column; what lies above the diagonal was before the task was learned.":
                a[:last, :last].max(dim=0).values - a[last, :last],
            "return one number a task, not their mean.": right.mean(),
        })  # fmt: skip
        same(found, right, f"for {tasks} tasks the forgetting of each")


@report
def check_interpolation(function):
    generator = torch.Generator()
    generator.seed()
    shapes = {"w": (3, 2), "b": (4,)}
    one, two = ({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(2))
    kept = {name: value.clone() for name, value in one.items()}
    for share in (0.0, 0.25, 1.0):
        found = function(one, two, share)
        assert isinstance(found, dict) and set(found) == set(one), "return a dict with the same names as the two given."
        for name in one:
            right = (1 - share) * kept[name] + share * two[name]
            turned = share * kept[name] + (1 - share) * two[name]
            _not_one_of(found[name], right, {"share is the part of `after`: 0 gives `before`, 1 gives `after`.": turned})
            same(found[name], right, f"with share {share} the weight {name!r}")
            assert torch.equal(one[name], kept[name]), "your function changes the weights of `before`; make new ones."


# Notebook 05


def _counts(experts=8, unused=3):
    """Counts (E,) of a task, all different where not zero, `unused` of them zero, in random order."""
    counts = torch.randperm(90)[:experts] + 10
    counts[torch.randperm(experts)[:unused]] = 0
    return counts


def _most_used(counts, k):
    """The k most used experts, worked out in plain Python: a set of indices."""
    ranking = sorted(range(len(counts)), key=lambda e: (-int(counts[e]), e))
    return {e for e in ranking[:k] if counts[e] > 0}


@report
def check_frozen_after(frozen_after):
    nothing = torch.zeros(8, dtype=torch.bool)

    def given(counts, before, k):
        counts, before = torch.as_tensor(counts), torch.as_tensor(before)
        kept = before.clone()
        found = frozen_after(counts.clone(), before, k)
        assert found is not None, "the result is None: does the function return it?"
        assert torch.is_tensor(found) and found.dtype == torch.bool and found.shape == counts.shape, (
            f"the result should be a tensor of True and False, one for each of {len(counts)} experts; "
            "a list of indices, or the k largest counts themselves, is not the mask."
        )
        assert torch.equal(before, kept), "the mask that was passed in has been changed: make a copy of it first."
        return set(found.nonzero().flatten().tolist())

    for _ in range(10):
        counts, k = _counts(), int(torch.randint(1, 4, ()))
        right, found = _most_used(counts, k), given(counts, nothing, k)
        where = f"with counts {counts.tolist()} and k = {k}"
        assert found != set(range(8)) - right, f"{where} the mask is upside down: True means frozen."
        assert found == right, f"{where} experts {sorted(right)} are frozen, not {sorted(found)}."
    found = given([5, 5, 3, 5], nothing[:4], 2)
    assert found == {0, 1}, f"counts [5, 5, 3, 5], k = 2: of equals the lower index comes first, {{0, 1}}, not {found}."
    found = given([0, 0, 7, 0], nothing[:4], 2)
    assert found == {2}, f"counts [0, 0, 7, 0], k = 2: an unused expert is never frozen, so {{2}}, not {found}."
    before = torch.tensor([True, False, False, False])
    found = given([0, 2, 9, 8], before, 2)
    assert found == {0, 2, 3}, f"what was frozen before stays frozen: {{0}} and {{2, 3}} together, not {found}."
    found = given([9, 2, 8, 1], before, 2)
    assert found != {0, 1, 2}, "expert 0 is frozen already, but it is one of the k most used: no other takes its place."
    assert found == {0, 2}, f"counts [9, 2, 8, 1], k = 2, expert 0 frozen before: {{0, 2}}, not {found}."


@report
def check_still_free(still_free):
    for _ in range(10):
        tasks, k = int(torch.randint(2, 6, ())), int(torch.randint(1, 4, ()))
        counts, frozen, right = torch.stack([_counts() for _ in range(tasks)]), set(), []
        for row in counts:
            frozen |= _most_used(row, k)
            right.append(8 - len(frozen))
        found = still_free(counts.clone(), k)
        assert found is not None, "the result is None: does the function return it?"
        found = torch.as_tensor(found)
        shape = tuple(found.shape)
        assert shape == (tasks,), f"{tasks} tasks were counted: {tasks} numbers are expected, not the shape {shape}."
        found = found.tolist()
        assert found != [8 - r for r in right], "these are the frozen experts; count the free ones."
        worst = [8 - k * (t + 1) for t in range(tasks)]
        assert found == right or found not in (worst, [max(w, 0) for w in worst]), (
            "that is E - k t, the worst case: an expert that two tasks use most is frozen only once."
        )
        alone = [8 - len(_most_used(row, k)) for row in counts]
        assert found == right or found != alone, "every task is counted alone: what was frozen before stays frozen."
        assert found == right, f"for the counts {counts.tolist()} and k = {k} there are {right} free, not {found}."


@report
def check_drift_by_task(drift_by_task):
    for _ in range(5):
        task = torch.cat([torch.arange(3), torch.randint(3, (9,))])[torch.randperm(12)]
        then = torch.randn(12, 5) * torch.rand(12, 1).add(0.2).mul(5)
        now = then + torch.randn(12, 5) * (task[:, None] + 1) / 2
        change = 100 * (now - then).norm(dim=1) / then.norm(dim=1)
        found = drift_by_task(now.clone(), then.clone(), task.clone())
        assert found is not None, "the result is None: does the function return it?"
        found = torch.as_tensor(found)
        shape = tuple(found.shape)
        assert shape == (3,), f"one number for each of the three tasks is expected, not the shape {shape}."

        def by_task(values):
            return torch.stack([values[task == t].mean() for t in range(3)])

        def fault(values):
            return torch.allclose(found, values, rtol=1e-4) and not torch.allclose(values, by_task(change), rtol=1e-4)

        assert not fault(by_task(change) / 100), "these are fractions: multiply by 100 for percent."
        other = 100 * (now - then).norm(dim=1) / now.norm(dim=1)
        assert not fault(by_task(other)), "divide by the length of `then`, not `now`."
        ratio = 100 * by_task((now - then).norm(dim=1)) / by_task(then.norm(dim=1))
        assert not fault(ratio), "this is the ratio of two means: take the ratio for each image first, then the mean."
        assert not fault(change.mean().expand(3)), "this is the mean over all images: take it for each task alone."
        same(found, by_task(change), "the drift of the three tasks", 1e-4)
    two, task = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([0, 1])
    moved = two + torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    same(drift_by_task(moved, two, task), [20.0, 0.0], "the drift of the two images of section 1, a task each,")


@report
def check_reconstruction_error(function):
    """Notebook 06, exercise 1: the error of each sample, compared with a library autoencoder on random features."""
    from .ddas import Autoencoder

    for size, dim in ((5, 12), (7, 3)):
        autoencoder = Autoencoder(dim, 4, squash=False).requires_grad_(False)
        features = torch.randn(size, dim)
        right, found = autoencoder.error(features), function(autoencoder, features)
        assert torch.is_tensor(found), "a tensor with one error for each sample is expected."
        assert found.ndim > 0, "one number for all samples is too few: take the mean over the features only, dim=1."
        if found.shape == (dim,):
            raise AssertionError("there is one number for each feature: the mean goes over the features, not the samples.")
        assert found.shape == (size,), f"the errors should have the shape ({size},), not {tuple(found.shape)}."
        assert not torch.allclose(found, right * dim, rtol=1e-4), "this is the sum over the features, not their mean."
        assert not torch.allclose(found, right.sqrt(), rtol=1e-4), "this is the root of the error: leave it squared."
        absolute = (autoencoder(features) - features).abs().mean(dim=1)
        assert not torch.allclose(found, absolute, rtol=1e-4), "these are absolute differences: square them."
        same(found, right, f"for {size} samples of {dim} features, the error")


@report
def check_selection(function):
    """Notebook 06, exercise 2: the paper's rule, by hand and on random errors."""
    from .ddas import select_below

    by_hand = torch.tensor([[0.3, 0.1, 0.2], [0.05, 0.1, 0.2], [0.4, 0.3, 0.25]])
    found = function(by_hand, 0.15)
    assert found is not None, "the answer is None: does the function return it?"
    assert found.shape == (3,), f"for three images the answer should have the shape (3,), not {tuple(found.shape)}."
    found = [round(v) for v in found.tolist()]
    assert found[0] != 1, "task 0 has column 1: subtract 1 from the column."
    assert found[0] == 0, f"errors 0.3, 0.1, 0.2 with threshold 0.15 belong to task 0, not {found[0]}: compare the right way."
    assert found[1] == -1, "where the reference (column 0) has the smallest error, the answer is -1."
    assert found[2] == -1, "where the smallest error, 0.25, is above the threshold, 0.15, the answer is -1."
    assert function(torch.tensor([[0.5, 0.25]]), 0.25).tolist() == [0], "an error equal to the threshold is accepted."
    for tasks in (1, 4):
        errors = torch.rand(50, 1 + tasks)
        same(function(errors, 0.3), select_below(errors, 0.3), f"for 50 random images and {tasks} tasks, the answer")


@report
def check_auroc(function):
    """Notebook 06, exercise 3: pairs in the right order, ties counted half."""
    found = function(torch.tensor([0.1, 0.2, 0.5]), torch.tensor([0.3, 0.6, 0.9, 1.0]))
    assert found is not None, "the AUROC is None: does the function return it?"
    found = float(found)
    assert abs(found - 1 / 12) > 1e-5, "this is 1 - AUROC: count the pairs where the own image has the smaller error."
    assert found <= 1, "divide the count by the number of pairs."
    same(found, 11 / 12, "with 11 of 12 pairs in order, the AUROC", tolerance=1e-6)
    found = float(function(torch.tensor([0.2, 0.2]), torch.tensor([0.2, 0.4])))
    assert abs(found - 0.5) > 1e-5, "a pair of equal errors counts half, not nothing."
    assert abs(found - 1.0) > 1e-5, "a pair of equal errors counts half, not one."
    same(found, 0.75, "with 2 pairs in order and 2 ties of 4, the AUROC", tolerance=1e-6)
    own, others = torch.randint(10, (30,)) / 10, torch.randint(3, 13, (40,)) / 10
    first = (own[:, None] < others).double().mean() + (own[:, None] == others).double().mean() / 2
    same(float(function(own, others)), float(first), "for 30 own and 40 other errors, the AUROC")
