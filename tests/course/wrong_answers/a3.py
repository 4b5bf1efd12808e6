"""Wrong answers to A3: name -> (question, the test that must refuse it, words of its message, the answer)."""

WRONG = {
    "weight for counts": ("a3-q1", "visible", "this is gate weight", """
def counts_by_task(gates, task):
    return torch.stack([gates[task == t].sum(dim=0) for t in range(int(task.max()) + 1)])
"""),
    "only the first choice": ("a3-q1", "visible", "the second choice counts as much", """
def counts_by_task(gates, task):
    first, experts = gates.argmax(dim=1), gates.shape[1]
    return torch.stack([first[task == t].bincount(minlength=experts) for t in range(int(task.max()) + 1)])
"""),
    "counts not reset": ("a3-q1", "visible", "begins to count at 0", """
def counts_by_task(gates, task):
    return torch.stack([(gates[task <= t] > 0).sum(dim=0) for t in range(int(task.max()) + 1)])
"""),
    "tasks of equal size": ("a3-q1", "visible", "different numbers of samples", """
def counts_by_task(gates, task):
    return torch.stack([(part > 0).sum(dim=0) for part in gates.chunk(int(task.max()) + 1)])
"""),
    "shares for counts": ("a3-q1", "visible", "these are shares", """
def counts_by_task(gates, task):
    return torch.stack([(gates[task == t] > 0).float().mean(dim=0) for t in range(int(task.max()) + 1)])
"""),
    "a row an expert": ("a3-q1", "visible", "a row a task", """
def counts_by_task(gates, task):
    return torch.stack([(gates[task == t] > 0).sum(dim=0) for t in range(int(task.max()) + 1)], dim=1)
"""),
    "small gates lost": ("a3-q1", "hidden", "small, but above zero", """
def counts_by_task(gates, task):
    return torch.stack([(gates[task == t] > 1e-6).sum(dim=0) for t in range(int(task.max()) + 1)])
"""),
    "k choices for everybody": ("a3-q1", "hidden", "counts for nobody", """
def counts_by_task(gates, task):
    k = int((gates > 0).sum(dim=1).max())
    chosen = torch.zeros_like(gates).scatter(1, gates.topk(k, dim=1).indices, 1)
    return torch.stack([chosen[task == t].sum(dim=0) for t in range(int(task.max()) + 1)])
"""),
    "mask inverted": ("a3-q2", "visible", "upside down", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        top = used.argsort(dim=2, descending=True, stable=True)[..., :number]
        chosen = torch.zeros_like(used, dtype=torch.bool).scatter(2, top, True) & (used > 0)
        masks[tower] = chosen.long().cumsum(dim=0) == 0
    return masks
"""),
    "before instead of after": ("a3-q2", "visible", "freezing comes after", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        frozen, told = torch.zeros_like(used[0], dtype=torch.bool), []
        for row in used:
            told.append(frozen.clone())
            top = row.argsort(dim=1, descending=True, stable=True)[:, :number]
            frozen |= torch.zeros_like(frozen).scatter(1, top, True) & (row > 0)
        masks[tower] = torch.stack(told)
    return masks
"""),
    "each task alone": ("a3-q2", "visible", "stays frozen", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        top = used.argsort(dim=2, descending=True, stable=True)[..., :number]
        masks[tower] = torch.zeros_like(used, dtype=torch.bool).scatter(2, top, True) & (used > 0)
    return masks
"""),
    "one mask noted T times": ("a3-q2", "visible", "copy it when you note it", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        frozen, told = torch.zeros_like(used[0], dtype=torch.bool), []
        for row in used:
            top = row.argsort(dim=1, descending=True, stable=True)[:, :number]
            frozen |= torch.zeros_like(frozen).scatter(1, top, True) & (row > 0)
            told.append(frozen)
        masks[tower] = torch.stack(told)
    return masks
"""),
    "experts of the other tower": ("a3-q2", "visible", "counts of the other tower", """
def frozen_masks(counts, number):
    masks = {}
    for tower in counts:
        used = counts["image"][:, : counts[tower].shape[1]]
        top = used.argsort(dim=2, descending=True, stable=True)[..., :number]
        chosen = torch.zeros_like(used, dtype=torch.bool).scatter(2, top, True) & (used > 0)
        masks[tower] = chosen.long().cumsum(dim=0) > 0
    return masks
"""),
    "one ranking for all blocks": ("a3-q2", "visible", "blocks are counted together", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        used = used.sum(dim=1, keepdim=True).expand_as(used)
        top = used.argsort(dim=2, descending=True, stable=True)[..., :number]
        chosen = torch.zeros_like(used, dtype=torch.bool).scatter(2, top, True) & (used > 0)
        masks[tower] = chosen.long().cumsum(dim=0) > 0
    return masks
"""),
    "unused experts frozen": ("a3-q2", "visible", "did not use", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        top = used.argsort(dim=2, descending=True, stable=True)[..., :number]
        masks[tower] = torch.zeros_like(used).scatter(2, top, 1).cumsum(dim=0) > 0
    return masks
"""),
    "higher index of equals": ("a3-q2", "visible", "of equal counts", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        top = used.argsort(dim=2, stable=True)[..., -number:]
        chosen = torch.zeros_like(used, dtype=torch.bool).scatter(2, top, True) & (used > 0)
        masks[tower] = chosen.long().cumsum(dim=0) > 0
    return masks
"""),
    "the next in line": ("a3-q2", "visible", "keeps its place", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        frozen, told = torch.zeros_like(used[0], dtype=torch.bool), []
        for row in used:
            top = row.masked_fill(frozen, 0).argsort(dim=1, descending=True, stable=True)[:, :number]
            frozen = frozen | torch.zeros_like(frozen).scatter(1, top, True) & (row > 0) & ~frozen
            told.append(frozen)
        masks[tower] = torch.stack(told)
    return masks
"""),
    "counts of all tasks so far": ("a3-q2", "visible", "each task freezes by its own", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        used = used.cumsum(dim=0)
        top = used.argsort(dim=2, descending=True, stable=True)[..., :number]
        chosen = torch.zeros_like(used, dtype=torch.bool).scatter(2, top, True) & (used > 0)
        masks[tower] = chosen.long().cumsum(dim=0) > 0
    return masks
"""),
    "counts spoilt": ("a3-q2", "visible", "changes its input", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        frozen, told = torch.zeros_like(used[0], dtype=torch.bool), []
        for row in used:
            for _ in range(number):
                largest = row.amax(dim=1, keepdim=True)
                top = (row == largest).long().argmax(dim=1, keepdim=True)
                frozen |= torch.zeros_like(frozen).scatter(1, top, True) & (row > 0)
                row.scatter_(1, top, -1)
            told.append(frozen.clone())
        masks[tower] = torch.stack(told)
    return masks
"""),
    "mask after the task": ("a3-q3", "visible", "these are the masks after the task", """
def reuse(counts, frozen):
    return 100 * (counts * frozen).sum(dim=2) / counts.sum(dim=2), 100 * frozen.float().mean(dim=2)
"""),
    "row minus one": ("a3-q3", "visible", "row -1 is the last one", """
def reuse(counts, frozen):
    before = torch.stack([frozen[t - 1] for t in range(len(frozen))])
    return 100 * (counts * before).sum(dim=2) / counts.sum(dim=2), 100 * before.float().mean(dim=2)
"""),
    "fractions": ("a3-q3", "visible", "percent are asked for", """
def reuse(counts, frozen):
    before = torch.cat([torch.zeros_like(frozen[:1]), frozen[:-1]])
    return (counts * before).sum(dim=2) / counts.sum(dim=2), before.float().mean(dim=2)
"""),
    "choices of the free": ("a3-q3", "visible", "FREE experts", """
def reuse(counts, frozen):
    before = torch.cat([torch.zeros_like(frozen[:1]), frozen[:-1]])
    return 100 * (counts * ~before).sum(dim=2) / counts.sum(dim=2), 100 * before.float().mean(dim=2)
"""),
    "experts for choices": ("a3-q3", "visible", "share of CHOICES", """
def reuse(counts, frozen):
    before, used = torch.cat([torch.zeros_like(frozen[:1]), frozen[:-1]]), counts > 0
    return 100 * (used & before).sum(dim=2) / used.sum(dim=2), 100 * before.float().mean(dim=2)
"""),
    "share of all blocks": ("a3-q3", "visible", "its own 100 %", """
def reuse(counts, frozen):
    before = torch.cat([torch.zeros_like(frozen[:1]), frozen[:-1]])
    return 100 * (counts * before).sum(dim=2) / counts.sum(dim=(1, 2))[:, None], 100 * before.float().mean(dim=2)
"""),
    "chance after the task": ("a3-q3", "visible", "by chance, too", """
def reuse(counts, frozen):
    before = torch.cat([torch.zeros_like(frozen[:1]), frozen[:-1]])
    return 100 * (counts * before).sum(dim=2) / counts.sum(dim=2), 100 * frozen.float().mean(dim=2)
"""),
    "chance by the worst case": ("a3-q3", "visible", "worst case", """
def reuse(counts, frozen):
    before = torch.cat([torch.zeros_like(frozen[:1]), frozen[:-1]])
    chance = 100 * 2 * torch.arange(len(counts)) / counts.shape[2]
    return 100 * (counts * before).sum(dim=2) / counts.sum(dim=2), chance[:, None].expand(counts.shape[:2])
"""),
    "gradient times zero": ("a3-q4", "visible", "zero is not none", """
def step_without_frozen(loss, optimiser, experts, frozen):
    optimiser.zero_grad()
    value = loss()
    value.backward()
    for expert, still in zip(experts, frozen):
        for parameter in expert.parameters():
            parameter.grad *= ~still
    optimiser.step()
    return value.item()
"""),
    "cleared to zero": ("a3-q4", "visible", "zero is not none", """
def step_without_frozen(loss, optimiser, experts, frozen):
    for expert, still in zip(experts, frozen.tolist()):
        expert.requires_grad_(not still)
    optimiser.zero_grad(set_to_none=False)
    value = loss()
    value.backward()
    optimiser.step()
    return value.item()
"""),
    "the last gradient kept": ("a3-q4", "visible", "the gradient of the last step is still there", """
def step_without_frozen(loss, optimiser, experts, frozen):
    for expert, still in zip(experts, frozen.tolist()):
        expert.requires_grad_(not still)
    value = loss()
    value.backward()
    optimiser.step()
    optimiser.zero_grad()
    return value.item()
"""),
    "frozen after the step": ("a3-q4", "visible", "BEFORE the step", """
def step_without_frozen(loss, optimiser, experts, frozen):
    optimiser.zero_grad()
    value = loss()
    value.backward()
    optimiser.step()
    for expert, still in zip(experts, frozen.tolist()):
        expert.requires_grad_(not still)
    return value.item()
"""),
    "the free are frozen": ("a3-q4", "visible", "upside down", """
def step_without_frozen(loss, optimiser, experts, frozen):
    optimiser.zero_grad()
    value = loss()
    value.backward()
    for expert, still in zip(experts, frozen.tolist()):
        for parameter in expert.parameters():
            parameter.grad = parameter.grad if still else None
    optimiser.step()
    return value.item()
"""),
    "biases are trained on": ("a3-q4", "visible", "the biases neither", """
def step_without_frozen(loss, optimiser, experts, frozen):
    optimiser.zero_grad()
    value = loss()
    value.backward()
    for expert, still in zip(experts, frozen.tolist()):
        if still:
            expert.down_proj.weight.grad = expert.up_proj.weight.grad = None
    optimiser.step()
    return value.item()
"""),
    "gradients added up": ("a3-q4", "visible", "were added", """
def step_without_frozen(loss, optimiser, experts, frozen):
    value = loss()
    value.backward()
    for expert, still in zip(experts, frozen.tolist()):
        for parameter in expert.parameters():
            parameter.grad = None if still else parameter.grad
    optimiser.step()
    return value.item()
"""),
    "moments thrown away": ("a3-q4", "visible", "moments of the free experts are gone", """
def step_without_frozen(loss, optimiser, experts, frozen):
    optimiser.zero_grad()
    value = loss()
    value.backward()
    for expert, still in zip(experts, frozen.tolist()):
        for parameter in expert.parameters():
            parameter.grad = None if still else parameter.grad
    optimiser.state.clear()
    optimiser.step()
    return value.item()
"""),
    "only the experts": ("a3-q4", "visible", "holds the router as well", """
def step_without_frozen(loss, optimiser, experts, frozen):
    optimiser.zero_grad()
    value = loss()
    value.backward()
    free = {p for expert, still in zip(experts, frozen.tolist()) if not still for p in expert.parameters()}
    for parameter in optimiser.param_groups[0]["params"]:
        parameter.grad = parameter.grad if parameter in free else None
    optimiser.step()
    return value.item()
"""),
    "all experts put back": ("a3-q4", "visible", "no expert has changed", """
def step_without_frozen(loss, optimiser, experts, frozen):
    kept = [expert.state_dict() for expert in experts]
    kept = [{name: value.clone() for name, value in state.items()} for state in kept]
    optimiser.zero_grad()
    value = loss()
    value.backward()
    optimiser.step()
    for expert, state in zip(experts, kept):
        expert.load_state_dict(state)
    return value.item()
"""),
    "loss after the step": ("a3-q4", "visible", "as it was before the step", """
def step_without_frozen(loss, optimiser, experts, frozen):
    optimiser.zero_grad()
    loss().backward()
    for expert, still in zip(experts, frozen.tolist()):
        for parameter in expert.parameters():
            parameter.grad = None if still else parameter.grad
    optimiser.step()
    return loss().item()
"""),
    "sum without gates": ("a3-q5", "visible", "gates are missing in the drift", """
def drift_and_bound(gates, then, now):
    change = now - then
    return change.sum(dim=1).norm(dim=1), (gates * change.norm(dim=2)).sum(dim=1)
"""),
    "difference of lengths": ("a3-q5", "visible", "keeps its length", """
def drift_and_bound(gates, then, now):
    new, old = ((gates[..., None] * answers).sum(dim=1).norm(dim=1) for answers in (now, then))
    return (new - old).abs(), (gates * (now - then).norm(dim=2)).sum(dim=1)
"""),
    "root forgotten": ("a3-q5", "visible", "the root is missing", """
def drift_and_bound(gates, then, now):
    change = now - then
    return (gates[..., None] * change).sum(dim=1).pow(2).sum(dim=1), (gates * change.norm(dim=2)).sum(dim=1)
"""),
    "relative drift": ("a3-q5", "visible", "the plain length is asked for", """
def drift_and_bound(gates, then, now):
    new, old = ((gates[..., None] * answers).sum(dim=1) for answers in (now, then))
    return (new - old).norm(dim=1) / old.norm(dim=1), (gates * (now - then).norm(dim=2)).sum(dim=1)
"""),
    "mean over the batch": ("a3-q5", "visible", "every sample has its own", """
def drift_and_bound(gates, then, now):
    change = now - then
    drift, bound = (gates[..., None] * change).sum(dim=1).norm(dim=1), (gates * change.norm(dim=2)).sum(dim=1)
    return drift.mean().expand(len(gates)), bound.mean().expand(len(gates))
"""),
    "one number for the batch": ("a3-q5", "visible", "one number for each", """
def drift_and_bound(gates, then, now):
    change = now - then
    return (gates[..., None] * change).sum(dim=1).norm(dim=1).mean(), (gates * change.norm(dim=2)).sum(dim=1).mean()
"""),
    "bound that is the drift": ("a3-q5", "visible", "take the length of each expert's change first", """
def drift_and_bound(gates, then, now):
    drift = (gates[..., None] * (now - then)).sum(dim=1).norm(dim=1)
    return drift, drift
"""),
    "bound by lengths then and now": ("a3-q5", "visible", "the length of its change", """
def drift_and_bound(gates, then, now):
    drift = (gates[..., None] * (now - then)).sum(dim=1).norm(dim=1)
    return drift, (gates * (now.norm(dim=2) - then.norm(dim=2)).abs()).sum(dim=1)
"""),
    "bound over everybody": ("a3-q5", "visible", "not chosen cannot move", """
def drift_and_bound(gates, then, now):
    change = now - then
    return (gates[..., None] * change).sum(dim=1).norm(dim=1), change.norm(dim=2).sum(dim=1)
"""),
    "bound by the largest": ("a3-q5", "visible", "no bound for a sum", """
def drift_and_bound(gates, then, now):
    change = now - then
    return (gates[..., None] * change).sum(dim=1).norm(dim=1), (gates * change.norm(dim=2)).amax(dim=1)
"""),
    "the newest router for all": ("a3-q6", "visible", "through the newest router", """
def mixed_batch(x, task, routers, experts):
    gates = routers[-1](x[:, 0])
    return sum(gates[:, e, None, None] * expert(x) for e, expert in enumerate(experts))
"""),
    "minus one is the last router": ("a3-q6", "visible", "routers[-1] is the LAST one", """
def mixed_batch(x, task, routers, experts):
    gates = torch.stack([routers[t](x[b : b + 1, 0])[0] for b, t in enumerate(task.tolist())])
    added = torch.zeros_like(x)
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        if rows.any():
            added[rows] += gates[rows, e, None, None] * expert(x[rows])
    return added
"""),
    "one call a task": ("a3-q6", "visible", "serves the samples of all of them", """
def mixed_batch(x, task, routers, experts):
    added = torch.zeros_like(x)
    for t, router in enumerate(routers):
        own = (task == t).nonzero().squeeze(1)
        if len(own):
            gates = router(x[own, 0])
            for e, expert in enumerate(experts):
                rows = gates[:, e].nonzero().squeeze(1)
                if len(rows):
                    added[own[rows]] += gates[rows, e, None, None] * expert(x[own[rows]])
    return added
"""),
    "experts that are silenced": ("a3-q6", "visible", "what is added should be", """
def mixed_batch(x, task, routers, experts):
    gates = torch.zeros(len(x), len(experts))
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t, 0])
    for e, expert in enumerate(experts):
        if gates[:, e].any():
            expert(x[gates[:, e] > 0])
        for parameter in expert.function.parameters():
            parameter.data.zero_()
    return torch.zeros_like(x)
"""),
    "experts meet everybody": ("a3-q6", "visible", "the experts got", """
def mixed_batch(x, task, routers, experts):
    gates = torch.zeros(len(x), len(experts))
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t, 0])
    used = gates.any(dim=0).tolist()
    return sum(gates[:, e, None, None] * experts[e](x) for e in range(len(experts)) if used[e])
"""),
    "an expert that nobody chose": ("a3-q6", "visible", "that no sample chose", """
def mixed_batch(x, task, routers, experts):
    gates, added = torch.zeros(len(x), len(experts)), torch.zeros_like(x)
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t, 0])
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        added[rows] += gates[rows, e, None, None] * expert(x[rows])
    return added
"""),
    "routers meet everybody": ("a3-q6", "visible", "the routers got", """
def mixed_batch(x, task, routers, experts):
    gates, added = torch.zeros(len(x), len(experts)), torch.zeros_like(x)
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[:, 0])[task == t]
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        if rows.any():
            added[rows] += gates[rows, e, None, None] * expert(x[rows])
    return added
"""),
    "a router of another task": ("a3-q6", "visible", "no sample of its task", """
def mixed_batch(x, task, routers, experts):
    gates, added = torch.zeros(len(x), len(experts)), torch.zeros_like(x)
    for t, router in enumerate(routers):
        gates[task == t] = router(x[task == t, 0])
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        if rows.any():
            added[rows] += gates[rows, e, None, None] * expert(x[rows])
    return added
"""),
    "weighted sum without gates": ("a3-q6", "visible", "gates are missing", """
def mixed_batch(x, task, routers, experts):
    gates, added = torch.zeros(len(x), len(experts)), torch.zeros_like(x)
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t, 0])
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        if rows.any():
            added[rows] += expert(x[rows])
    return added
"""),
    "last expert wins": ("a3-q6", "visible", "overwrites the first", """
def mixed_batch(x, task, routers, experts):
    gates, added = torch.zeros(len(x), len(experts)), torch.zeros_like(x)
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t, 0])
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        if rows.any():
            added[rows] = gates[rows, e, None, None] * expert(x[rows])
    return added
"""),
    "router of the mean token": ("a3-q6", "visible", "not the mean of all", """
def mixed_batch(x, task, routers, experts):
    gates, added = torch.zeros(len(x), len(experts)), torch.zeros_like(x)
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t].mean(dim=1))
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        if rows.any():
            added[rows] += gates[rows, e, None, None] * expert(x[rows])
    return added
"""),
    "router of all tokens": ("a3-q6", "visible", "a router reads the first token", """
def mixed_batch(x, task, routers, experts):
    gates = torch.zeros(len(x), len(experts))
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t])[:, 0]
    return sum(gates[:, e, None, None] * expert(x) for e, expert in enumerate(experts))
"""),
    "gradient cut": ("a3-q6", "hidden", "no gradient reaches the routers", """
def mixed_batch(x, task, routers, experts):
    gates, added = torch.zeros(len(x), len(experts)), torch.zeros_like(x)
    for t, router in enumerate(routers):
        if (task == t).any():
            gates[task == t] = router(x[task == t, 0]).detach()
    for e, expert in enumerate(experts):
        rows = gates[:, e] > 0
        if rows.any():
            added[rows] += gates[rows, e, None, None] * expert(x[rows])
    return added
"""),
    "a slice from -0": ("a3-q2", "hidden", "a slice from -0 takes all", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        ranking = used.flip(2).argsort(dim=2, stable=True)[:, :, -number:]
        ranking = used.shape[2] - 1 - ranking
        by_this_task = torch.zeros_like(used, dtype=torch.bool).scatter(2, ranking, True) & (used > 0)
        masks[tower] = by_this_task.long().cumsum(dim=0) > 0
    return masks
"""),
    "used more than once": ("a3-q2", "visible", "should have frozen", """
def frozen_masks(counts, number):
    masks = {}
    for tower, used in counts.items():
        ranking = used.argsort(dim=2, descending=True, stable=True)[:, :, :number]
        by_this_task = torch.zeros_like(used, dtype=torch.bool).scatter(2, ranking, True) & (used > 1)
        masks[tower] = by_this_task.long().cumsum(dim=0) > 0
    return masks
"""),
    "masks spoilt": ("a3-q3", "visible", "changes its input", """
def reuse(counts, frozen):
    frozen[1:] = frozen[:-1].clone()
    frozen[0] = False
    return 100 * (counts * frozen).sum(dim=2) / counts.sum(dim=2), 100 * frozen.double().mean(dim=2)
"""),
    "another module in the list": ("a3-q4", "visible", "trained like the others", """
import copy


def step_without_frozen(loss, optimiser, experts, frozen):
    kept = [copy.deepcopy(expert) for expert in experts]
    optimiser.zero_grad()
    value = loss()
    value.backward()
    optimiser.step()
    for e, still in enumerate(frozen.tolist()):
        if still:
            experts[e] = kept[e]
    return value.item()
"""),
    "nothing to do if all are frozen": ("a3-q4", "hidden", "with all frozen the router", """
def step_without_frozen(loss, optimiser, experts, frozen):
    if frozen.all():
        return loss().item()
    optimiser.zero_grad()
    value = loss()
    value.backward()
    for expert, still in zip(experts, frozen.tolist()):
        if still:
            for parameter in expert.parameters():
                parameter.grad = None
    optimiser.step()
    return value.item()
"""),
    "a batch of one squeezed": ("a3-q5", "hidden", "for a single sample the drift has the shape ()", """
def drift_and_bound(gates, then, now):
    change = now - then
    drift = (gates[:, None] @ change).squeeze().norm(dim=-1)
    return drift, (gates * change.norm(dim=2)).sum(dim=1)
"""),
    "three by heart": ("a3-q5", "hidden", "with three frozen experts the", """
def drift_and_bound(gates, then, now):
    values, chosen = gates.topk(min(3, gates.shape[1]), dim=1)
    change = (now - then).gather(1, chosen[:, :, None].expand(-1, -1, now.shape[2]))
    drift = (values[:, :, None] * change).sum(dim=1).norm(dim=1)
    return drift, (values * change.norm(dim=2)).sum(dim=1)
"""),
    "two by heart": ("a3-q6", "hidden", "what is added", """
def mixed_batch(x, task, routers, experts):
    gates = x.new_zeros(len(x), len(experts))
    for t, router in enumerate(routers):
        rows = (task == t).nonzero().squeeze(1)
        if len(rows):
            gates = gates.index_put((rows,), router(x[rows, 0]))
    chosen = torch.zeros_like(gates).scatter(1, gates.topk(2, dim=1).indices, 1.0) * (task >= 0)[:, None]
    chosen = chosen * (gates > 0)
    added = torch.zeros_like(x)
    for e, expert in enumerate(experts):
        rows = chosen[:, e].nonzero().squeeze(1)
        if len(rows):
            added = added.index_add(0, rows, gates[rows, e, None, None] * expert(x[rows]))
    return added
"""),
    "the input added": ("a3-q6", "visible", "the input itself is not part of it", """
def mixed_batch(x, task, routers, experts):
    gates = x.new_zeros(len(x), len(experts))
    for t, router in enumerate(routers):
        rows = (task == t).nonzero().squeeze(1)
        if len(rows):
            gates = gates.index_put((rows,), router(x[rows, 0]))
    added = x.clone()
    for e, expert in enumerate(experts):
        rows = gates[:, e].nonzero().squeeze(1)
        if len(rows):
            added = added.index_add(0, rows, gates[rows, e, None, None] * expert(x[rows]))
    return added
"""),
    "cut off from x": ("a3-q6", "hidden", "no gradient passes through the experts to x", """
def mixed_batch(x, task, routers, experts):
    x = x.detach()
    gates = x.new_zeros(len(x), len(experts))
    for t, router in enumerate(routers):
        rows = (task == t).nonzero().squeeze(1)
        if len(rows):
            gates = gates.index_put((rows,), router(x[rows, 0]))
    added = torch.zeros_like(x)
    for e, expert in enumerate(experts):
        rows = gates[:, e].nonzero().squeeze(1)
        if len(rows):
            added = added.index_add(0, rows, gates[rows, e, None, None] * expert(x[rows]))
    return added
"""),
}  # fmt: skip
