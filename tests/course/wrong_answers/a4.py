"""Wrong answers to A4: name -> (question, the test that must refuse it, words of its message, the answer)."""

WRONG = {
    "standardised by the batch": ("a4-q1", "visible", "by the batch itself", """
def standardised_statistics(patches, reference):
    own = torch.cat([patches.mean(dim=1), patches.std(dim=1)], dim=1)
    return (own - own.mean(dim=0)) / (own.std(dim=0) + 1e-6)
"""),
    "not standardised": ("a4-q1", "visible", "plain statistics", """
def standardised_statistics(patches, reference):
    return torch.cat([patches.mean(dim=1), patches.std(dim=1)], dim=1)
"""),
    "only centred": ("a4-q1", "visible", "is not divided by", """
def standardised_statistics(patches, reference):
    own, known = (torch.cat([p.mean(dim=1), p.std(dim=1)], dim=1) for p in (patches, reference))
    return own - known.mean(dim=0)
"""),
    "only scaled": ("a4-q1", "visible", "is not subtracted", """
def standardised_statistics(patches, reference):
    own, known = (torch.cat([p.mean(dim=1), p.std(dim=1)], dim=1) for p in (patches, reference))
    return own / (known.std(dim=0) + 1e-6)
"""),
    "patches standardised": ("a4-q1", "visible", "the PATCHES are standardised", """
def standardised_statistics(patches, reference):
    tokens = (patches - reference.mean(dim=(0, 1))) / (reference.std(dim=(0, 1)) + 1e-6)
    return torch.cat([tokens.mean(dim=1), tokens.std(dim=1)], dim=1)
"""),
    "variance for deviation": ("a4-q1", "visible", "the root is missing", """
def standardised_statistics(patches, reference):
    own, known = (torch.cat([p.mean(dim=1), p.var(dim=1)], dim=1) for p in (patches, reference))
    return (own - known.mean(dim=0)) / (known.std(dim=0) + 1e-6)
"""),
    "deviations first": ("a4-q1", "visible", "deviations come first", """
def standardised_statistics(patches, reference):
    own, known = (torch.cat([p.std(dim=1), p.mean(dim=1)], dim=1) for p in (patches, reference))
    return (own - known.mean(dim=0)) / (known.std(dim=0) + 1e-6)
"""),
    "means and deviations alternate": ("a4-q1", "visible", "alternate", """
def standardised_statistics(patches, reference):
    own, known = (torch.stack([p.mean(dim=1), p.std(dim=1)], dim=2).flatten(1) for p in (patches, reference))
    return (own - known.mean(dim=0)) / (known.std(dim=0) + 1e-6)
"""),
    "statistics over the channels": ("a4-q1", "visible", "have the shape", """
def standardised_statistics(patches, reference):
    own, known = (torch.cat([p.mean(dim=2), p.std(dim=2)], dim=1) for p in (patches, reference))
    return (own - known.mean(dim=0)) / (known.std(dim=0) + 1e-6)
"""),
    "no small number": ("a4-q1", "hidden", "add 1e-6", """
def standardised_statistics(patches, reference):
    own, known = (torch.cat([p.mean(dim=1), p.std(dim=1)], dim=1) for p in (patches, reference))
    return (own - known.mean(dim=0)) / known.std(dim=0)
"""),
    "batch joined to the reference": ("a4-q1", "visible", "the statistics should be", """
def standardised_statistics(patches, reference):
    every = torch.cat([torch.cat([p.mean(dim=1), p.std(dim=1)], dim=1) for p in (patches, reference)])
    return ((every - every.mean(dim=0)) / (every.std(dim=0) + 1e-6))[: len(patches)]
"""),
    "last sigmoid forgotten": ("a4-q2", "visible", "at the end of the autoencoder is forgotten", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = (torch.einsum("nd,acd->nac", x, w_in) + b_in).relu()
    return (torch.einsum("nac,adc->nad", hidden, w_out) + b_out - x[:, None]).pow(2).mean(dim=2)
"""),
    "sigmoid of the features forgotten": ("a4-q2", "visible", "sigmoid of the features is forgotten", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    hidden = (torch.einsum("nd,acd->nac", raw, w_in) + b_in).relu()
    return ((torch.einsum("nac,adc->nad", hidden, w_out) + b_out).sigmoid() - raw[:, None]).pow(2).mean(dim=2)
"""),
    "compared with the raw numbers": ("a4-q2", "visible", "compared with the raw numbers", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    hidden = (torch.einsum("nd,acd->nac", raw.sigmoid(), w_in) + b_in).relu()
    return ((torch.einsum("nac,adc->nad", hidden, w_out) + b_out).sigmoid() - raw[:, None]).pow(2).mean(dim=2)
"""),
    "no sigmoid at all": ("a4-q2", "visible", "no sigmoid anywhere", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    hidden = (torch.einsum("nd,acd->nac", raw, w_in) + b_in).relu()
    return (torch.einsum("nac,adc->nad", hidden, w_out) + b_out - raw[:, None]).pow(2).mean(dim=2)
"""),
    "ReLU forgotten": ("a4-q2", "visible", "the ReLU between", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = torch.einsum("nd,acd->nac", x, w_in) + b_in
    return ((torch.einsum("nac,adc->nad", hidden, w_out) + b_out).sigmoid() - x[:, None]).pow(2).mean(dim=2)
"""),
    "biases forgotten": ("a4-q2", "visible", "biases are forgotten", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = torch.einsum("nd,acd->nac", x, w_in).relu()
    return (torch.einsum("nac,adc->nad", hidden, w_out).sigmoid() - x[:, None]).pow(2).mean(dim=2)
"""),
    "sum over the features": ("a4-q2", "visible", "this is the sum", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = (torch.einsum("nd,acd->nac", x, w_in) + b_in).relu()
    return ((torch.einsum("nac,adc->nad", hidden, w_out) + b_out).sigmoid() - x[:, None]).pow(2).sum(dim=2)
"""),
    "summed over the autoencoders": ("a4-q2", "visible", "the errors have the shape", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = (torch.einsum("nd,acd->nac", x, w_in) + b_in).relu()
    return ((torch.einsum("nac,adc->nad", hidden, w_out) + b_out).sigmoid() - x[:, None]).pow(2).sum(dim=1)
"""),
    "mean over the batch": ("a4-q2", "visible", "every image has its own", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = (torch.einsum("nd,acd->nac", x, w_in) + b_in).relu()
    output = (torch.einsum("nac,adc->nad", hidden, w_out) + b_out).sigmoid()
    return (output - x[:, None]).pow(2).mean(dim=(0, 2)).expand(len(x), len(w_in))
"""),
    "root of the error": ("a4-q2", "visible", "leave it squared", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = (torch.einsum("nd,acd->nac", x, w_in) + b_in).relu()
    output = (torch.einsum("nac,adc->nad", hidden, w_out) + b_out).sigmoid()
    return (output - x[:, None]).pow(2).mean(dim=2).sqrt()
"""),
    "rows for columns": ("a4-q2", "visible", "a row is an image", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = (torch.einsum("nd,acd->anc", x, w_in) + b_in[:, None]).relu()
    return ((torch.einsum("anc,adc->and", hidden, w_out) + b_out[:, None]).sigmoid() - x).pow(2).mean(dim=2)
"""),
    "rows for columns where nothing fits": ("a4-q2", "hidden", "rows and columns are exchanged", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    x = raw.sigmoid()
    hidden = (torch.einsum("nd,acd->anc", x, w_in) + b_in[:, None]).relu()
    errors = ((torch.einsum("anc,adc->and", hidden, w_out) + b_out[:, None]).sigmoid() - x).pow(2).mean(dim=2)
    return errors if errors.shape == (len(raw), len(w_in)) else errors.T
"""),
    "limits of the training": ("a4-q3", "visible", "set on the training images", """
def own_limits(tables, held_out, q):
    return torch.stack([(e[~p, t + 1] / e[~p, 0]).quantile(q) for t, (e, p) in enumerate(zip(tables, held_out))])
"""),
    "limits of all images": ("a4-q3", "visible", "set on all images", """
def own_limits(tables, held_out, q):
    return torch.stack([(e[:, t + 1] / e[:, 0]).quantile(q) for t, e in enumerate(tables)])
"""),
    "quantile from the wrong end": ("a4-q3", "visible", "wrong end", """
def own_limits(tables, held_out, q):
    return torch.stack([(e[p, t + 1] / e[p, 0]).quantile(1 - q) for t, (e, p) in enumerate(zip(tables, held_out))])
"""),
    "column of the task before": ("a4-q3", "visible", "task t has column t + 1", """
def own_limits(tables, held_out, q):
    return torch.stack([(e[p, t] / e[p, 0]).quantile(q) for t, (e, p) in enumerate(zip(tables, held_out))])
"""),
    "reference left out": ("a4-q3", "visible", "not divided by that of the reference", """
def own_limits(tables, held_out, q):
    return torch.stack([e[p, t + 1].quantile(q) for t, (e, p) in enumerate(zip(tables, held_out))])
"""),
    "ratio turned around": ("a4-q3", "visible", "ratio is turned around", """
def own_limits(tables, held_out, q):
    return torch.stack([(e[p, 0] / e[p, t + 1]).quantile(q) for t, (e, p) in enumerate(zip(tables, held_out))])
"""),
    "quotient of quantiles": ("a4-q3", "visible", "quotient of two quantiles", """
def own_limits(tables, held_out, q):
    own = [e[p, t + 1].quantile(q) / e[p, 0].quantile(q) for t, (e, p) in enumerate(zip(tables, held_out))]
    return torch.stack(own)
"""),
    "largest for quantile": ("a4-q3", "visible", "these are the largest", """
def own_limits(tables, held_out, q):
    return torch.stack([(e[p, t + 1] / e[p, 0]).max() for t, (e, p) in enumerate(zip(tables, held_out))])
"""),
    "one limit for all": ("a4-q3", "visible", "one limit for all tasks", """
def own_limits(tables, held_out, q):
    everything = torch.cat([e[p, t + 1] / e[p, 0] for t, (e, p) in enumerate(zip(tables, held_out))])
    return everything.quantile(q).expand(len(tables))
"""),
    "no limit above one": ("a4-q3", "hidden", "above 1, too", """
def own_limits(tables, held_out, q):
    own = torch.stack([(e[p, t + 1] / e[p, 0]).quantile(q) for t, (e, p) in enumerate(zip(tables, held_out))])
    return own.clamp(max=1)
"""),
    "next sample for interpolation": ("a4-q3", "visible", "the limits should be", """
def own_limits(tables, held_out, q):
    ordered = [(e[p, t + 1] / e[p, 0]).sort().values for t, (e, p) in enumerate(zip(tables, held_out))]
    return torch.stack([values[int(q * (len(values) - 1))] for values in ordered])
"""),
    "limit compared the wrong way": ("a4-q4", "visible", "limit is compared the wrong way", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    sure = (ordered[:, 0] >= 1) & (len(limits) == 1 or ordered[:, 1] >= margin * ordered[:, 0])
    return torch.where(sure, tasks[:, 0], -1)
"""),
    "margin compared the wrong way": ("a4-q4", "visible", "margin is compared the wrong way", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    return torch.where((ordered[:, 0] <= 1) & (ordered[:, 1] <= margin * ordered[:, 0]), tasks[:, 0], -1)
"""),
    "margin forgotten": ("a4-q4", "visible", "margin has no effect", """
def choose_or_doubt(errors, limits, margin):
    return select_calibrated(errors, limits)
"""),
    "limit forgotten": ("a4-q4", "visible", "limit has no effect", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    return torch.where(ordered[:, 1] >= margin * ordered[:, 0], tasks[:, 0], -1)
"""),
    "margin added": ("a4-q4", "visible", "margin is a factor", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    return torch.where((ordered[:, 0] <= 1) & (ordered[:, 1] >= margin + ordered[:, 0]), tasks[:, 0], -1)
"""),
    "column for task": ("a4-q4", "visible", "counts tasks from 0", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    return torch.where((ordered[:, 0] <= 1) & (ordered[:, 1] >= margin * ordered[:, 0]), tasks[:, 0] + 1, -1)
"""),
    "limits not divided by": ("a4-q4", "visible", "limits of the tasks have no effect", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1]).sort(dim=1)
    return torch.where((ordered[:, 0] <= 1) & (ordered[:, 1] >= margin * ordered[:, 0]), tasks[:, 0], -1)
"""),
    "reference not divided by": ("a4-q4", "visible", "not divided by that of the reference", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / limits).sort(dim=1)
    return torch.where((ordered[:, 0] <= 1) & (ordered[:, 1] >= margin * ordered[:, 0]), tasks[:, 0], -1)
"""),
    "mean over the batch where a sample is meant": ("a4-q4", "visible", "each is judged alone", """
def choose_or_doubt(errors, limits, margin):
    mean = errors.mean(dim=0)
    ordered, tasks = (mean[1:] / mean[0] / limits).sort()
    sure = ordered[0] <= 1 and (len(limits) == 1 or ordered[1] >= margin * ordered[0])
    return torch.full((len(errors),), int(tasks[0]) if sure else -1)
"""),
    "reference among the tasks": ("a4-q4", "visible", "with the margin", """
def choose_or_doubt(errors, limits, margin):
    relative = torch.cat([torch.ones_like(errors[:, :1]), errors[:, 1:] / errors[:, :1] / limits], dim=1)
    ordered, columns = relative.sort(dim=1)
    return torch.where(ordered[:, 1] >= margin * ordered[:, 0], columns[:, 0] - 1, -1)
"""),
    "always a second": ("a4-q4", "hidden", "only the limit decides", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    second = ordered[:, min(1, len(limits) - 1)]
    return torch.where((ordered[:, 0] <= 1) & (second >= margin * ordered[:, 0]), tasks[:, 0], -1)
"""),
    "doubt at the margin": ("a4-q4", "hidden", "exactly `margin` times", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    sure = (ordered[:, 0] <= 1) & (len(limits) == 1 or ordered[:, 1] > margin * ordered[:, 0])
    return torch.where(sure, tasks[:, 0], -1)
"""),
    "unknown at the limit": ("a4-q4", "hidden", "exactly at the limit", """
def choose_or_doubt(errors, limits, margin):
    ordered, tasks = (errors[:, 1:] / errors[:, :1] / limits).sort(dim=1)
    sure = (ordered[:, 0] < 1) & (len(limits) == 1 or ordered[:, 1] >= margin * ordered[:, 0])
    return torch.where(sure, tasks[:, 0], -1)
"""),
    "each image alone": ("a4-q5", "visible", "every image is judged alone", """
def vote_by_user(errors, user, threshold):
    return select_below(errors, threshold)
"""),
    "one vote for the batch": ("a4-q5", "visible", "all images of the batch vote together", """
def vote_by_user(errors, user, threshold):
    return select_below(errors.mean(dim=0, keepdim=True), threshold).expand(len(errors))
"""),
    "errors summed": ("a4-q5", "visible", "the errors are summed", """
def vote_by_user(errors, user, threshold):
    return torch.cat([select_below(errors[user == u].sum(dim=0, keepdim=True), threshold) for u in user])
"""),
    "majority of decisions": ("a4-q5", "visible", "single decisions are counted", """
def vote_by_user(errors, user, threshold):
    alone = select_below(errors, threshold)
    return torch.stack([alone[user == u].mode().values for u in user])
"""),
    "smallest for mean": ("a4-q5", "visible", "best image decides", """
def vote_by_user(errors, user, threshold):
    return torch.cat([select_below(errors[user == u].amin(dim=0, keepdim=True), threshold) for u in user])
"""),
    "threshold the wrong way": ("a4-q5", "visible", "threshold is compared the wrong way", """
def vote_by_user(errors, user, threshold):
    smallest, column = torch.stack([errors[user == u].mean(dim=0) for u in user]).min(dim=1)
    return torch.where(smallest < threshold, -1, column - 1)
"""),
    "threshold forgotten": ("a4-q5", "visible", "threshold has no effect", """
def vote_by_user(errors, user, threshold):
    return torch.stack([errors[user == u].mean(dim=0) for u in user]).argmin(dim=1) - 1
"""),
    "reference left out of the vote": ("a4-q5", "visible", "the reference has a column, too", """
def vote_by_user(errors, user, threshold):
    smallest, task = torch.stack([errors[user == u].mean(dim=0) for u in user])[:, 1:].min(dim=1)
    return torch.where(smallest > threshold, -1, task)
"""),
    "column including the reference": ("a4-q5", "visible", "the column is named", """
def vote_by_user(errors, user, threshold):
    smallest, column = torch.stack([errors[user == u].mean(dim=0) for u in user]).min(dim=1)
    return torch.where(smallest > threshold, -1, column)
"""),
    "a vote of one": ("a4-q5", "visible", "gets 0, not -1", """
def vote_by_user(errors, user, threshold):
    mean = torch.stack([errors[user == u].mean(dim=0) for u in user])
    alone = torch.stack([(user == u).sum() == 1 for u in user])
    return torch.where(alone, -1, select_below(mean, threshold))
"""),
    "mean over the tasks": ("a4-q5", "visible", "with the mean errors", """
def vote_by_user(errors, user, threshold):
    smallest = torch.stack([errors[user == u].mean(dim=1).min() for u in user])
    return torch.where(smallest > threshold, -1, errors.argmin(dim=1) - 1)
"""),
    "an answer a user": ("a4-q5", "visible", "every IMAGE gets an answer", """
def vote_by_user(errors, user, threshold):
    return torch.cat([select_below(errors[user == u].mean(dim=0, keepdim=True), threshold) for u in user.unique()])
"""),
    "unknown at the threshold": ("a4-q5", "hidden", "equals the threshold", """
def vote_by_user(errors, user, threshold):
    smallest, column = torch.stack([errors[user == u].mean(dim=0) for u in user]).min(dim=1)
    return torch.where(smallest < threshold, column - 1, -1)
"""),
    "a fraction": ("a4-q6", "visible", "percent are asked for", """
def true_accepts_at(own, others, rate):
    allowed = int(rate * len(others) / 100)
    limit = others.sort().values[allowed] if allowed < len(others) else torch.inf
    return (own < limit).double().mean()
"""),
    "own and others exchanged": ("a4-q6", "visible", "own and others are exchanged", """
def true_accepts_at(own, others, rate):
    allowed = int(rate * len(own) / 100)
    limit = own.sort().values[allowed] if allowed < len(own) else torch.inf
    return 100 * (others < limit).double().mean()
"""),
    "large errors accepted": ("a4-q6", "visible", "SMALL error", """
def true_accepts_at(own, others, rate):
    allowed = int(rate * len(others) / 100)
    limit = others.sort(descending=True).values[allowed] if allowed < len(others) else -torch.inf
    return 100 * (own > limit).double().mean()
"""),
    "share refused": ("a4-q6", "visible", "share that is refused", """
def true_accepts_at(own, others, rate):
    allowed = int(rate * len(others) / 100)
    limit = others.sort().values[allowed] if allowed < len(others) else torch.inf
    return 100 * (own >= limit).double().mean()
"""),
    "rate taken as a fraction": ("a4-q6", "visible", "rate is in percent", """
def true_accepts_at(own, others, rate):
    shares = [(100 * (own <= x).double().mean()).item() for x in own if (others <= x).double().mean() <= rate]
    return max(shares, default=0.0)
"""),
    "threshold from the own": ("a4-q6", "visible", "set on the own images", """
def true_accepts_at(own, others, rate):
    return 100 * (own <= own.quantile(rate / 100)).double().mean()
"""),
    "a quantile of the others": ("a4-q6", "visible", "one of the two others", """
def true_accepts_at(own, others, rate):
    return 100 * (own <= others.quantile(rate / 100)).double().mean().item()
"""),
    "less than the rate": ("a4-q6", "visible", "AT MOST 50 percent", """
def true_accepts_at(own, others, rate):
    limit = others.sort().values[max(0, -int(-rate * len(others) // 100) - 1)]  # one less than may be accepted
    return 100 * (own < limit).double().mean()
"""),
    "equal others counted once": ("a4-q6", "hidden", "lets neither in", """
def true_accepts_at(own, others, rate):
    allowed, ordered = int(rate * len(others) / 100), others.unique()
    limit = ordered[allowed] if allowed < len(ordered) else torch.inf
    return 100 * (own < limit).double().mean()
"""),
    "never all": ("a4-q6", "hidden", "where all others may be accepted", """
def true_accepts_at(own, others, rate):
    limit = others.sort().values[min(int(rate * len(others) / 100), len(others) - 1)]
    return 100 * (own < limit).double().mean()
"""),
    "ties accepted": ("a4-q6", "hidden", "cannot be accepted without it", """
def true_accepts_at(own, others, rate):
    allowed = int(rate * len(others) / 100)
    if allowed >= len(others):
        return 100.0
    limit = others.sort().values[allowed]
    return 100 * (own <= limit).double().mean()
"""),
    "NaN to 0": ("a4-q1", "hidden", "where a channel is 7 in all reference images", """
def standardised_statistics(patches, reference):
    def statistics(tokens):
        return torch.cat([tokens.mean(dim=1), tokens.std(dim=1)], dim=1)

    known = statistics(reference)
    return ((statistics(patches) - known.mean(dim=0)) / known.std(dim=0)).nan_to_num()
"""),
    "an autoencoder of the library": ("a4-q2", "visible", "uses `Autoencoder`", """
def paper_errors(raw, w_in, b_in, w_out, b_out):
    errors = []
    for a in range(len(w_in)):
        model = Autoencoder(w_in.shape[2], w_in.shape[1])
        model.encoder[0].weight.data, model.encoder[0].bias.data = w_in[a], b_in[a]
        model.decoder[0].weight.data, model.decoder[0].bias.data = w_out[a], b_out[a]
        errors.append(model.error(raw.sigmoid()).detach())
    return torch.stack(errors, dim=1)
"""),
    "tables spoilt": ("a4-q3", "visible", "changes its input", """
def own_limits(tables, held_out, q):
    limits = []
    for t, (errors, part) in enumerate(zip(tables, held_out)):
        errors[:, 1:] /= errors[:, :1].clone()
        limits.append(errors[part, t + 1].quantile(q))
    return torch.stack(limits)
"""),
    "two that are equal raise no doubt": ("a4-q4", "hidden", "limits 1 and margin 2", """
def choose_or_doubt(errors, limits, margin):
    answers = []
    for row in errors[:, 1:] / errors[:, :1] / limits:
        values = row.unique()
        sure = values[0] <= 1 and (len(values) == 1 or values[1] >= margin * values[0])
        answers.append(int(row.argmin()) if sure else -1)
    return torch.tensor(answers)
"""),
    "one image squeezed": ("a4-q4", "hidden", "for a single image the answer has the shape ()", """
def choose_or_doubt(errors, limits, margin):
    relative = errors[:, 1:] / errors[:, :1] / limits
    ordered, tasks = relative.sort(dim=1)
    sure = ordered[:, 0] <= 1
    if len(limits) > 1:
        sure = sure & (ordered[:, 1] >= margin * ordered[:, 0])
    return torch.where(sure, tasks[:, 0], -1).squeeze()
"""),
    "rounded up": ("a4-q6", "hidden", "do not round it up", """
def true_accepts_at(own, others, rate):
    best = 0.0
    for threshold in own.tolist():
        if (others <= threshold).sum().item() <= round(rate * len(others) / 100 + 0.3):
            best = max(best, 100 * (own <= threshold).sum().item() / len(own))
    return best
"""),
    "no threshold above 1": ("a4-q6", "hidden", "errors may lie above 1", """
def true_accepts_at(own, others, rate):
    best = 0.0
    for threshold in torch.linspace(0, 1, 10001).tolist():
        if 100 * (others <= threshold).sum().item() <= rate * len(others):
            best = max(best, 100 * (own <= threshold).sum().item() / len(own))
    return best
"""),
}  # fmt: skip
