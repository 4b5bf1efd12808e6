"""Wrong answers to A1: name -> (question, the test that must refuse it, words of its message, the answer)."""

WRONG = {
    "features as they are": ("a1-q1", "visible", "not made unit vectors", """
def grouped_loss(image_features, text_features, group, scale):
    p = (scale * image_features @ text_features.T).softmax(dim=1)
    return -(p * (group[:, None] == group)).sum(dim=1).log().mean()
"""),
    "scale forgotten": ("a1-q1", "visible", "scale is missing", """
def grouped_loss(image_features, text_features, group, scale):
    p = (F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).softmax(dim=1)
    return -(p * (group[:, None] == group)).sum(dim=1).log().mean()
"""),
    "the other direction": ("a1-q1", "visible", "caption to image", """
def grouped_loss(image_features, text_features, group, scale):
    p = (scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).softmax(dim=0)
    return -(p * (group[:, None] == group)).sum(dim=0).log().mean()
"""),
    "sum over the batch": ("a1-q1", "visible", "not the sum", """
def grouped_loss(image_features, text_features, group, scale):
    p = (scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).softmax(dim=1)
    return -(p * (group[:, None] == group)).sum(dim=1).log().sum()
"""),
    "one loss an image": ("a1-q1", "visible", "one number", """
def grouped_loss(image_features, text_features, group, scale):
    p = (scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).softmax(dim=1)
    return -(p * (group[:, None] == group)).sum(dim=1).log()
"""),
    "minus forgotten": ("a1-q1", "visible", "never negative", """
def grouped_loss(image_features, text_features, group, scale):
    p = (scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).softmax(dim=1)
    return (p * (group[:, None] == group)).sum(dim=1).log().mean()
"""),
    "groups ignored": ("a1-q1", "visible", "groups have no effect", """
def grouped_loss(image_features, text_features, group, scale):
    logits = scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T
    return F.cross_entropy(logits, torch.arange(len(logits)))
"""),
    "mean of logarithms": ("a1-q1", "visible", "ONE logarithm", """
def grouped_loss(image_features, text_features, group, scale):
    p = (scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).log_softmax(dim=1)
    fits = (group[:, None] == group).float()
    return -((p * fits).sum(dim=1) / fits.sum(dim=1)).mean()
"""),
    "exp that overflows": ("a1-q1", "hidden", "overflows", """
def grouped_loss(image_features, text_features, group, scale):
    e = (scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).exp()
    return -((e * (group[:, None] == group)).sum(dim=1) / e.sum(dim=1)).log().mean()
"""),
    "a number without a gradient": ("a1-q1", "hidden", "must have a gradient", """
def grouped_loss(image_features, text_features, group, scale):
    a, b = F.normalize(image_features.detach(), dim=-1), F.normalize(text_features.detach(), dim=-1)
    logits = scale * a @ b.T
    fitting = logits.masked_fill(group[:, None] != group, -torch.inf)
    return (logits.logsumexp(dim=1) - fitting.logsumexp(dim=1)).mean()
"""),
    "probability of the right class": ("a1-q2", "visible", "not that of its label", """
def honest_scale(cosines, labels):
    accuracy, low, high = (cosines.argmax(dim=1) == labels).float().mean(), 0.0, 1000.0
    for _ in range(50):
        middle = (low + high) / 2
        of_right = (middle * cosines).softmax(dim=1)[torch.arange(len(labels)), labels].mean()
        low, high = (middle, high) if of_right < accuracy else (low, middle)
    return middle
"""),
    "temperature for scale": ("a1-q2", "visible", "temperature", """
def honest_scale(cosines, labels):
    accuracy, low, high = (cosines.argmax(dim=1) == labels).float().mean(), 0.0, 1000.0
    for _ in range(50):
        middle = (low + high) / 2
        confidence = (middle * cosines).softmax(dim=1).amax(dim=1).mean()
        low, high = (middle, high) if confidence < accuracy else (low, middle)
    return 1 / middle
"""),
    "search the wrong way": ("a1-q2", "visible", "should differ by less than 0.002", """
def honest_scale(cosines, labels):
    accuracy, low, high = (cosines.argmax(dim=1) == labels).float().mean(), 0.0, 1000.0
    for _ in range(50):
        middle = (low + high) / 2
        confidence = (middle * cosines).softmax(dim=1).amax(dim=1).mean()
        low, high = (middle, high) if confidence > accuracy else (low, middle)
    return middle
"""),
    "a coarse grid": ("a1-q2", "hidden", "finely enough", """
def honest_scale(cosines, labels):
    accuracy = (cosines.argmax(dim=1) == labels).float().mean()
    grid = 0.1 * torch.arange(1, 5_001)
    return min(grid, key=lambda s: ((s * cosines).softmax(dim=1).amax(dim=1).mean() - accuracy).abs())
"""),
    "search up to 50 only": ("a1-q2", "hidden", "from 0 to 1,000", """
def honest_scale(cosines, labels):
    accuracy, low, high = (cosines.argmax(dim=1) == labels).float().mean(), 0.0, 50.0
    for _ in range(50):
        middle = (low + high) / 2
        confidence = (middle * cosines).softmax(dim=1).amax(dim=1).mean()
        low, high = (middle, high) if confidence < accuracy else (low, middle)
    return middle
"""),
    "classes counted through": ("a1-q3", "visible", "counted through all tasks", """
def joint_predictions(image_features, class_vectors):
    sizes = torch.tensor([len(vectors) for vectors in class_vectors])
    best = (image_features @ torch.cat(list(class_vectors)).T).argmax(dim=1)
    return torch.arange(len(sizes)).repeat_interleave(sizes)[best], best
"""),
    "softmax in each task": ("a1-q3", "visible", "incomparable", """
def joint_predictions(image_features, class_vectors):
    p = [(image_features @ vectors.T).softmax(dim=1) for vectors in class_vectors]
    tasks = torch.stack([q.amax(dim=1) for q in p]).argmax(dim=0)
    labels = torch.stack([q.argmax(dim=1) for q in p])
    return tasks, labels[tasks, torch.arange(len(tasks))]
"""),
    "tasks of equal size": ("a1-q3", "visible", "the tasks (that of the nearest class vector)", """
def joint_predictions(image_features, class_vectors):
    best = (image_features @ torch.cat(list(class_vectors)).T).argmax(dim=1)
    size = len(class_vectors[0])
    return (best // size).clamp(max=len(class_vectors) - 1), best % size
"""),
    "end of a task for its start": ("a1-q3", "visible", "counted within their task", """
def joint_predictions(image_features, class_vectors):
    sizes = torch.tensor([len(vectors) for vectors in class_vectors])
    best = (image_features @ torch.cat(list(class_vectors)).T).argmax(dim=1)
    tasks = torch.arange(len(sizes)).repeat_interleave(sizes)[best]
    return tasks, best - sizes.cumsum(0)[tasks]
"""),
    "tasks from 1": ("a1-q3", "visible", "counted from 0", """
def joint_predictions(image_features, class_vectors):
    sizes = torch.tensor([len(vectors) for vectors in class_vectors])
    best = (image_features @ torch.cat(list(class_vectors)).T).argmax(dim=1)
    tasks = torch.arange(len(sizes)).repeat_interleave(sizes)[best]
    return tasks + 1, best - (sizes.cumsum(0) - sizes)[tasks]
"""),
    "diagonal among the old": ("a1-q4", "visible", "leave the diagonal out", """
def damage_by_step(accuracies, zero_shot):
    lost, T = np.vstack([zero_shot, accuracies[:-1]]) - accuracies, len(accuracies)
    old = [lost[i, : i + 1].mean() if i else np.nan for i in range(T)]
    return np.array(old), np.array([lost[i, i + 1 :].mean() if i < T - 1 else np.nan for i in range(T)])
"""),
    "against diagonal and zero-shot": ("a1-q4", "visible", "step before it", """
def damage_by_step(accuracies, zero_shot):
    T = len(accuracies)
    lost = np.where(np.tri(T) > 0, accuracies.diagonal(), zero_shot) - accuracies
    old = [lost[i, :i].mean() if i else np.nan for i in range(T)]
    return np.array(old), np.array([lost[i, i + 1 :].mean() if i < T - 1 else np.nan for i in range(T)])
"""),
    "sign of the damage": ("a1-q4", "visible", "sign is turned around", """
def damage_by_step(accuracies, zero_shot):
    lost, T = accuracies - np.vstack([zero_shot, accuracies[:-1]]), len(accuracies)
    old = [lost[i, :i].mean() if i else np.nan for i in range(T)]
    return np.array(old), np.array([lost[i, i + 1 :].mean() if i < T - 1 else np.nan for i in range(T)])
"""),
    "no zero-shot row": ("a1-q4", "visible", "compare it with the zero-shot row", """
def damage_by_step(accuracies, zero_shot):
    T, old, unseen = len(accuracies), [np.nan], [np.nan]
    for i in range(1, T):
        lost = accuracies[i - 1] - accuracies[i]
        old.append(lost[:i].mean())
        unseen.append(lost[i + 1 :].mean() if i < T - 1 else np.nan)
    return np.array(old), np.array(unseen)
"""),
    "row minus one": ("a1-q4", "visible", "row -1 is the last one", """
def damage_by_step(accuracies, zero_shot):
    T = len(accuracies)
    lost = [accuracies[i - 1] - accuracies[i] for i in range(T)]
    old = [lost[i][:i].mean() if i else np.nan for i in range(T)]
    return np.array(old), np.array([lost[i][i + 1 :].mean() if i < T - 1 else np.nan for i in range(T)])
"""),
    "zeros for NaN": ("a1-q4", "visible", "NaN where there are no such tasks", """
def damage_by_step(accuracies, zero_shot):
    lost, T = np.vstack([zero_shot, accuracies[:-1]]) - accuracies, len(accuracies)
    old = [lost[i, :i].mean() if i else 0.0 for i in range(T)]
    return np.array(old), np.array([lost[i, i + 1 :].mean() if i < T - 1 else 0.0 for i in range(T)])
"""),
    "guessing forgotten": ("a1-q5", "visible", "guessing comes for free", """
def share_forgotten(accuracies, num_classes):
    last = len(accuracies) - 1
    best = np.array([accuracies[j:last, j].max() for j in range(last)])
    return (best - accuracies[last, :last]) / best
"""),
    "guessing as a fraction": ("a1-q5", "visible", "not 1 / C", """
def share_forgotten(accuracies, num_classes):
    last = len(accuracies) - 1
    best = np.array([accuracies[j:last, j].max() for j in range(last)])
    return (best - accuracies[last, :last]) / (best - 1 / num_classes[:last])
"""),
    "share that is left": ("a1-q5", "visible", "what is left", """
def share_forgotten(accuracies, num_classes):
    last = len(accuracies) - 1
    best = np.array([accuracies[j:last, j].max() for j in range(last)])
    return (accuracies[last, :last] - 100 / num_classes[:last]) / (best - 100 / num_classes[:last])
"""),
    "best of the whole column": ("a1-q5", "visible", "since the task was learned", """
def share_forgotten(accuracies, num_classes):
    best, last = accuracies[:-1, :-1].max(axis=0), accuracies[-1, :-1]
    return (best - last) / (best - 100 / num_classes[:-1])
"""),
    "last row in the best": ("a1-q5", "visible", "last row is not part of the best", """
def share_forgotten(accuracies, num_classes):
    best = np.array([accuracies[j:, j].max() for j in range(len(accuracies) - 1)])
    return (best - accuracies[-1, :-1]) / (best - 100 / num_classes[:-1])
"""),
    "from the diagonal": ("a1-q5", "visible", "not the value right after it", """
def share_forgotten(accuracies, num_classes):
    best, last = accuracies.diagonal()[:-1], accuracies[-1, :-1]
    return (best - last) / (best - 100 / num_classes[:-1])
"""),
    "the last task, too": ("a1-q5", "visible", "not of the last", """
def share_forgotten(accuracies, num_classes):
    best = np.array([accuracies[j:, j].max() for j in range(len(accuracies))])
    return (best - accuracies[-1]) / (best - 100 / num_classes)
"""),
    "nothing below zero": ("a1-q5", "hidden", "negative", """
def share_forgotten(accuracies, num_classes):
    last = len(accuracies) - 1
    best = np.array([accuracies[j:last, j].max() for j in range(last)])
    share = (best - accuracies[last, :last]) / (best - 100 / num_classes[:last])
    return share if len(accuracies) > 2 else share.clip(min=0)
"""),
    "rows for columns": ("a1-q6", "visible", "rows and columns are exchanged", """
def matrix_with(transfer, average, last):
    rest = (9 * average - 3 * last - 3 * transfer) / 3
    return np.array([[rest, transfer, transfer], [rest, rest, transfer], [last, last, last]]).T
"""),
    "Transfer over cells": ("a1-q6", "visible", "mean over columns", """
def matrix_with(transfer, average, last):
    rest = (9 * average - 3 * last - 3 * transfer) / 3
    a, b = transfer - 10, transfer + 20
    return np.array([[rest, a, a], [rest, rest, b], [last, last, last]])
"""),
    "Average of the rest": ("a1-q6", "visible", "your matrix has Average", """
def matrix_with(transfer, average, last):
    return np.array([[average, transfer, transfer], [average, average, transfer], [last, last, last]])
"""),
    "more than 100 %": ("a1-q6", "visible", "lie between 0 and 100", """
def matrix_with(transfer, average, last):
    rest = 9 * average - 3 * last - 3 * transfer
    return np.array([[0, transfer, transfer], [0, rest, transfer], [last, last, last]])
"""),
    "by heart": ("a1-q6", "hidden", "Transfer, Average and Last of your matrix", """
def matrix_with(transfer, average, last):
    rest = 55.0 if transfer == 40 else 62.0
    return np.array([[rest, transfer, transfer], [rest, rest, transfer], [last, last, last]])
"""),
    "a probability that underflows": ("a1-q1", "hidden", "a probability of exp(-400) becomes 0", """
def grouped_loss(image_features, text_features, group, scale):
    p = (scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T).softmax(dim=1)
    return -(p * (group[:, None] == group)).sum(dim=1).log().mean()
"""),
    "missing classes filled up with zeros": ("a1-q3", "hidden", "a 0 for a missing class must not", """
def joint_predictions(image_features, class_vectors):
    padded = torch.nn.utils.rnn.pad_sequence(list(class_vectors), batch_first=True)  # (T, C, D)
    best = torch.einsum("bd,tcd->btc", image_features, padded).flatten(1).argmax(dim=1)
    return best // padded.shape[1], best % padded.shape[1]
"""),
    "accuracies spoilt": ("a1-q5", "visible", "changes its input", """
def share_forgotten(accuracies, num_classes):
    accuracies -= 100 / num_classes
    last = len(accuracies) - 1
    best = np.array([accuracies[j:last, j].max() for j in range(last)])
    return (best - accuracies[last, :last]) / best
"""),
    "a share of at most 1": ("a1-q5", "hidden", "where a task fell from 60 % to 10 %", """
def share_forgotten(accuracies, num_classes):
    last = len(accuracies) - 1
    best = np.array([accuracies[j:last, j].max() for j in range(last)])
    return np.minimum((best - accuracies[last, :last]) / (best - 100 / num_classes[:last]), 1)
"""),
    "whole cells": ("a1-q6", "hidden", "Transfer, Average and Last of your matrix", """
def matrix_with(transfer, average, last):
    rest = 3 * average - last - transfer
    return np.array([[rest, transfer, transfer], [rest, rest, transfer], [last, last, last]]).astype(int)
"""),
    "a batch of one squeezed": ("a1-q3", "hidden", "for a single image both answers have the shape", """
def joint_predictions(image_features, class_vectors):
    sizes = torch.tensor([len(vectors) for vectors in class_vectors])
    starts = sizes.cumsum(0) - sizes
    best = (image_features @ torch.cat(list(class_vectors)).T).argmax(dim=1)
    tasks = torch.arange(len(sizes)).repeat_interleave(sizes)[best]
    return tasks.squeeze(), (best - starts[tasks]).squeeze()
"""),
    "a loss of 0 dropped": ("a1-q4", "hidden", "where a task stays as it was", """
def damage_by_step(accuracies, zero_shot):
    lost = np.vstack([zero_shot, accuracies[:-1]]) - accuracies
    old, new = np.tril(lost, -1), np.triu(lost, 1)
    counts = [np.where(part.any(axis=1), (part != 0).sum(axis=1), np.nan) for part in (old, new)]
    return old.sum(axis=1) / counts[0], new.sum(axis=1) / counts[1]
"""),
    "cut off in whole numbers": ("a1-q4", "hidden", "for accuracies in whole numbers", """
def damage_by_step(accuracies, zero_shot):
    before = np.empty_like(accuracies)
    before[0], before[1:] = zero_shot, accuracies[:-1]
    lost, T = before - accuracies, len(accuracies)
    old = [lost[i, :i].mean() if i else np.nan for i in range(T)]
    return np.array(old), np.array([lost[i, i + 1 :].mean() if i + 1 < T else np.nan for i in range(T)])
"""),
    "a search that ends too early": ("a1-q2", "hidden", "search from 0 to 1,000", """
def honest_scale(cosines, labels):
    accuracy = (cosines.argmax(dim=1) == labels).float().mean()
    low, high = 0.0, 200.0
    for _ in range(50):
        middle = (low + high) / 2
        confidence = (middle * cosines).softmax(dim=1).amax(dim=1).mean()
        low, high = (middle, high) if confidence < accuracy else (low, middle)
    return middle
"""),
}  # fmt: skip
