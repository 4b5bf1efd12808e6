"""Wrong answers to A2: name -> (question, the test that must refuse it, words of its message, the answer)."""

WRONG = {
    "scale forgotten": ("a2-q1", "visible", "scale is missing in the gradient of W_down", """
def adapter_gradients(x, delta, down_weight, up_weight, scale):
    hidden = (x @ down_weight.T).relu()
    return scale * delta.T @ hidden, ((delta @ up_weight) * (hidden > 0)).T @ x
"""),
    "closed units pass a gradient": ("a2-q1", "visible", "[h > 0] is missing", """
def adapter_gradients(x, delta, down_weight, up_weight, scale):
    return scale * delta.T @ (x @ down_weight.T).relu(), scale * (delta @ up_weight).T @ x
"""),
    "no ReLU in front of up": ("a2-q1", "visible", "missing for W_up", """
def adapter_gradients(x, delta, down_weight, up_weight, scale):
    hidden = x @ down_weight.T
    return scale * delta.T @ hidden, scale * ((delta @ up_weight) * (hidden > 0)).T @ x
"""),
    "mean over the batch": ("a2-q1", "visible", "a mean over the samples", """
def adapter_gradients(x, delta, down_weight, up_weight, scale):
    hidden = (x @ down_weight.T).relu()
    return scale * delta.T @ hidden / len(x), scale * ((delta @ up_weight) * (hidden > 0)).T @ x / len(x)
"""),
    "gradient turned around": ("a2-q1", "visible", "a gradient has the shape of its matrix", """
def adapter_gradients(x, delta, down_weight, up_weight, scale):
    hidden = (x @ down_weight.T).relu()
    return scale * hidden.T @ delta, scale * x.T @ ((delta @ up_weight) * (hidden > 0))
"""),
    "turned to the right shape": ("a2-q1", "hidden", "with r = D the gradient of W_up is turned around", """
def adapter_gradients(x, delta, down_weight, up_weight, scale):
    hidden = (x @ down_weight.T).relu()
    up, down = scale * hidden.T @ delta, scale * x.T @ ((delta @ up_weight) * (hidden > 0))
    return (up if up.shape == up_weight.shape else up.T), (down if down.shape == down_weight.shape else down.T)
"""),
    "autograd asked": ("a2-q1", "visible", "calls autograd", """
def adapter_gradients(x, delta, down_weight, up_weight, scale):
    down, up = down_weight.clone().requires_grad_(), up_weight.clone().requires_grad_()
    (scale * (x @ down.T).relu() @ up.T * delta).sum().backward()
    return up.grad, down.grad
"""),
    "noise at evaluation": ("a2-q2", "visible", "in evaluation", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate + noise * (F.softplus(c @ w_noise) + 0.01)
"""),
    "never any noise": ("a2-q2", "visible", "in training the noise is missing", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate
"""),
    "softplus forgotten": ("a2-q2", "visible", "softplus is missing", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate + noise * (c @ w_noise + 0.01) * training
"""),
    "floor forgotten": ("a2-q2", "visible", "0.01 is missing", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate + noise * F.softplus(c @ w_noise) * training
"""),
    "floor outside the bracket": ("a2-q2", "visible", "the whole bracket, the 0.01 too", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate + (noise * F.softplus(c @ w_noise) + 0.01) * training
"""),
    "exp for softplus": ("a2-q2", "visible", "a new router's standard deviation", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate + noise * ((c @ w_noise).exp() + 0.01) * training
"""),
    "one draw for the batch": ("a2-q2", "visible", "every sample has noise of its own", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate + noise[0] * (F.softplus(c @ w_noise) + 0.01) * training
"""),
    "softplus that overflows": ("a2-q2", "hidden", "you overflow", """
def noisy_logits(c, w_gate, w_noise, noise, training):
    return c @ w_gate + noise * ((1 + (c @ w_noise).exp()).log() + 0.01) * training
"""),
    "softmax before the top k": ("a2-q3", "visible", "sum to 1", """
def allowed_gates(logits, k, allowed):
    p = logits.masked_fill(~allowed, -torch.inf).softmax(dim=1)
    return torch.zeros_like(p).scatter(1, p.topk(k, dim=1).indices, p.topk(k, dim=1).values)
"""),
    "closed after the top k": ("a2-q3", "visible", "BEFORE the top k", """
def allowed_gates(logits, k, allowed):
    return top_k_softmax(logits, k) * allowed
"""),
    "closed with a zero": ("a2-q3", "visible", "not allowed has a gate above 0", """
def allowed_gates(logits, k, allowed):
    return top_k_softmax(logits * allowed, k)
"""),
    "mask inverted": ("a2-q3", "visible", "mask turned around", """
def allowed_gates(logits, k, allowed):
    return top_k_softmax(logits.masked_fill(allowed, -torch.inf), k)
"""),
    "input changed": ("a2-q3", "visible", "changes its input", """
def allowed_gates(logits, k, allowed):
    logits[:, ~allowed] = -torch.inf
    return top_k_softmax(logits, k)
"""),
    "nobody allowed": ("a2-q3", "hidden", "NaN", """
def allowed_gates(logits, k, allowed):
    return top_k_softmax(logits.masked_fill(~allowed, -torch.inf), k)
"""),
    "a large negative number": ("a2-q3", "hidden", "1 of", """
def allowed_gates(logits, k, allowed):
    if not allowed.any():
        return torch.zeros_like(logits)
    return top_k_softmax(logits - 9.0 * ~allowed, k)
"""),
    "mean not subtracted": ("a2-q4", "visible", "is not subtracted", """
def logit_gradient(logits, k, answers):
    return top_k_softmax(logits, k) * answers
"""),
    "mean not weighted": ("a2-q4", "visible", "mean of the chosen is weighted", """
def logit_gradient(logits, k, answers):
    gates = top_k_softmax(logits, k)
    return gates * (answers - (answers * (gates > 0)).sum(dim=1, keepdim=True) / k)
"""),
    "gate in front forgotten": ("a2-q4", "visible", "W_i in front", """
def logit_gradient(logits, k, answers):
    gates = top_k_softmax(logits, k)
    return (gates > 0) * (answers - (gates * answers).sum(dim=1, keepdim=True))
"""),
    "softmax of all": ("a2-q4", "visible", "not chosen has a gradient of exactly 0", """
def logit_gradient(logits, k, answers):
    p = logits.softmax(dim=1)
    return p * (answers - (p * answers).sum(dim=1, keepdim=True))
"""),
    "sign turned around": ("a2-q4", "visible", "sign is turned around", """
def logit_gradient(logits, k, answers):
    gates = top_k_softmax(logits, k)
    return gates * ((gates * answers).sum(dim=1, keepdim=True) - answers)
"""),
    "mean over the samples": ("a2-q4", "visible", "not a mean", """
def logit_gradient(logits, k, answers):
    gates = top_k_softmax(logits, k)
    return gates * (answers - (gates * answers).sum(dim=1, keepdim=True)) / len(logits)
"""),
    "always the two largest": ("a2-q4", "visible", "k = 4", """
def logit_gradient(logits, k, answers):
    gates = top_k_softmax(logits, 2)
    return gates * (answers - (gates * answers).sum(dim=1, keepdim=True))
"""),
    "autograd asked for the logits": ("a2-q4", "visible", "calls autograd", """
def logit_gradient(logits, k, answers):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad((top_k_softmax(logits, k) * answers).sum(), logits)[0]
"""),
    "autograd as a function": ("a2-q4", "visible", "calls autograd", """
def logit_gradient(logits, k, answers):
    return torch.func.grad(lambda z: (top_k_softmax(z, k) * answers).sum())(logits)
"""),
    "everybody computes everything": ("a2-q5", "visible", "no token chose was called", """
def mixture_per_token(x, gates, experts):
    return sum(gates[:, :, e, None] * expert(x) for e, expert in enumerate(experts))
"""),
    "all tokens to the chosen": ("a2-q5", "visible", "only these are computed", """
def mixture_per_token(x, gates, experts):
    used = [e for e in range(len(experts)) if gates[:, :, e].any()]
    return sum(gates[:, :, e, None] * experts[e](x) for e in used)
"""),
    "gates forgotten": ("a2-q5", "visible", "gates are missing", """
def mixture_per_token(x, gates, experts):
    added = torch.zeros_like(x)
    for e, expert in enumerate(experts):
        if (gates[:, :, e] > 0).any():
            added[gates[:, :, e] > 0] += expert(x[gates[:, :, e] > 0])
    return added
"""),
    "gate before the expert": ("a2-q5", "visible", "not what the expert reads", """
def mixture_per_token(x, gates, experts):
    tokens, weights = x.flatten(0, 1), gates.flatten(0, 1)
    added = torch.zeros_like(tokens)
    for e, expert in enumerate(experts):
        rows = weights[:, e].nonzero().squeeze(1)
        if len(rows):
            added = added.index_add(0, rows, expert(weights[rows, e, None] * tokens[rows]))
    return added.view_as(x)
"""),
    "experts that are silenced": ("a2-q5", "visible", "what is added should be", """
def mixture_per_token(x, gates, experts):
    for e, expert in enumerate(experts):
        rows = gates[:, :, e] > 0
        if rows.any():
            expert(x[rows])
        for parameter in expert.expert.parameters():
            parameter.data.zero_()
    return torch.zeros_like(x)
"""),
    "last expert wins": ("a2-q5", "visible", "overwrites", """
def mixture_per_token(x, gates, experts):
    added = torch.zeros_like(x)
    for e, expert in enumerate(experts):
        rows = gates[:, :, e] > 0
        if rows.any():
            added[rows] = gates[:, :, e][rows][:, None] * expert(x[rows])
    return added
"""),
    "one call a token": ("a2-q5", "visible", "more than once", """
def mixture_per_token(x, gates, experts):
    added = torch.zeros_like(x)
    for b, l, e in gates.nonzero().tolist():
        added[b, l] += gates[b, l, e] * experts[e](x[b, l][None])[0]
    return added
"""),
    "gradient cut": ("a2-q5", "hidden", "no gradient reaches the gates", """
def mixture_per_token(x, gates, experts):
    added, gates = torch.zeros_like(x), gates.detach()
    for e, expert in enumerate(experts):
        rows = gates[:, :, e] > 0
        if rows.any():
            added[rows] += gates[:, :, e][rows][:, None] * expert(x[rows])
    return added
"""),
    "one matrix a router": ("a2-q6", "visible", "two matrices", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    return (budget - num_tasks * width * num_experts - num_experts * width) // (num_experts * (2 * width + 1))
"""),
    "one router for all tasks": ("a2-q6", "visible", "one router a task", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    return (budget - 2 * width * num_experts - num_experts * width) // (num_experts * (2 * width + 1))
"""),
    "biases forgotten": ("a2-q6", "visible", "have a bias", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    return (budget - 2 * num_tasks * width * num_experts) // (num_experts * 2 * width)
"""),
    "rounded up": ("a2-q6", "visible", "round down", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    left = budget - 2 * num_tasks * width * num_experts - num_experts * width
    return -(-left // (num_experts * (2 * width + 1)))
"""),
    "a float": ("a2-q6", "visible", "not a float", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    return (budget - 2 * num_tasks * width * num_experts - num_experts * width) / (num_experts * (2 * width + 1))
"""),
    "below the budget, not at it": ("a2-q6", "visible", "to the last parameter", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    left = budget - 1 - 2 * num_tasks * width * num_experts - num_experts * width
    return max(0, left // (num_experts * (2 * width + 1)))
"""),
    "at least one": ("a2-q6", "hidden", "the answer is 0, not 1", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    left = budget - 2 * num_tasks * width * num_experts - num_experts * width
    return max(1, left // (num_experts * (2 * width + 1)))
"""),
    "one that fits exactly refused": ("a2-q6", "hidden", "the answer is 1, not 0", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    left, unit = budget - (2 * num_tasks + 1) * width * num_experts, num_experts * (2 * width + 1)
    return left // unit if left > unit else 0
"""),
    "negative for small budgets": ("a2-q6", "hidden", "the answer is 0", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    left = budget - 2 * num_tasks * width * num_experts - num_experts * width
    return left // (num_experts * (2 * width + 1))
"""),
    "grad by its name": ("a2-q1", "visible", "calls autograd", """
from torch.autograd import grad


def adapter_gradients(x, delta, down_weight, up_weight, scale):
    down, up = down_weight.clone().requires_grad_(), up_weight.clone().requires_grad_()
    return grad((scale * (x @ down.T).relu() @ up.T * delta).sum(), (up, down))
"""),
    "forward mode": ("a2-q4", "visible", "calls autograd", """
from torch.func import jacfwd


def logit_gradient(logits, k, answers):
    return jacfwd(lambda z: (top_k_softmax(z, k) * answers).sum())(logits)
"""),
    "all that reach the k-th largest": ("a2-q3", "hidden", "where all logits are equal", """
def allowed_gates(logits, k, allowed):
    if not allowed.any():
        return torch.zeros_like(logits)
    z = logits.masked_fill(~allowed, -torch.inf)
    kth = z.sort(dim=1, descending=True).values[:, k - 1 : k]
    return z.masked_fill(z < kth, -torch.inf).softmax(dim=1)
"""),
    "all that reach the k-th largest, gradient": ("a2-q4", "hidden", "where all logits are equal", """
def logit_gradient(logits, k, answers):
    kth = logits.sort(dim=1, descending=True).values[:, k - 1 : k]
    gates = logits.masked_fill(logits < kth, -torch.inf).softmax(dim=1)
    return gates * (answers - (gates * answers).sum(dim=1, keepdim=True))
"""),
    "experts without a gradient": ("a2-q5", "hidden", "no gradient passes through the experts to x", """
def mixture_per_token(x, gates, experts):
    tokens, weights = x.flatten(0, 1), gates.flatten(0, 1)
    added = torch.zeros_like(tokens)
    for e, expert in enumerate(experts):
        rows = weights[:, e].nonzero().squeeze(1)
        if len(rows):
            added = added.index_add(0, rows, weights[rows, e, None] * expert(tokens[rows]).detach())
    return added.view_as(x)
"""),
    "small gates left out": ("a2-q5", "visible", "only these are computed", """
def mixture_per_token(x, gates, experts):
    tokens, weights = x.flatten(0, 1), gates.flatten(0, 1)
    added = torch.zeros_like(tokens)
    for e, expert in enumerate(experts):
        rows = (weights[:, e] > 1e-3).nonzero().squeeze(1)
        if len(rows):
            added = added.index_add(0, rows, weights[rows, e, None] * expert(tokens[rows]))
    return added.view_as(x)
"""),
    "exponentials of large logits": ("a2-q3", "hidden", "for logits 100, 99 and 0", """
def allowed_gates(logits, k, allowed):
    if not allowed.any():
        return torch.zeros_like(logits)
    values, chosen = (logits.exp() * allowed).topk(k, dim=1)
    return torch.zeros_like(logits).scatter(1, chosen, values / values.sum(dim=1, keepdim=True))
"""),
    "gates made to sum to 1": ("a2-q5", "hidden", "with gates that sum to 1/2", """
def mixture_per_token(x, gates, experts):
    gates = gates / gates.sum(dim=-1, keepdim=True).clamp(min=1e-9)
    tokens, weights = x.flatten(0, 1), gates.flatten(0, 1)
    added = torch.zeros_like(tokens)
    for e, expert in enumerate(experts):
        rows = weights[:, e].nonzero().squeeze(1)
        if len(rows):
            added = added.index_add(0, rows, weights[rows, e, None] * expert(tokens[rows]))
    return added.view_as(x)
"""),
    "a search that is cut off": ("a2-q6", "hidden", "Is a search cut off", """
def bottleneck_within(width, num_experts, num_tasks, budget):
    best = 0
    for r in range(1, 512):
        if num_tasks * 2 * width * num_experts + num_experts * (2 * width * r + r + width) <= budget:
            best = r
    return best
"""),
}  # fmt: skip
