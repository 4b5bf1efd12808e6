"""MoE-Adapters, the paper's method: MoEClip and DDAS, task after task. Built in notebook 07."""

from functools import partial

import torch

from ..clip import class_logits, count_parameters
from ..ddas import DDAS
from ..moe import MoEClip
from .base import TrainedMethod, seed_everything


class MoEAdapters(TrainedMethod):
    """Experts shared by all tasks, one router a task, activate–freeze, and a selector: the whole of the paper's method.

    selector: "ddas" chooses the router of every test image without being told its task; "known" is told the task and
    takes the original CLIP for tasks not yet learned; "none" always takes the newest router. freeze: how many
    experts a block and tower are frozen after a task, None for all that were used. ddas: settings of `DDAS`.
    shared_router: one router for all tasks, as in the class-incremental experiments. noise_at_evaluation: the gates
    stay noisy in evaluation, which the official code does there by mistake; see notebook 09. gate_noise, image_at
    and text_at as in `MoEClip`.
    """

    name = "moe-adapters"
    rates = (3e-3, 6e-3, 1e-2, 2e-2)

    def __init__(
        self, clip, tokenizer, reference=None, num_experts=14, top_k=2, bottleneck=64, text_router_token="sot",
        learning_rate=1e-2, load_balance_weight=0.0, freeze=2, shared_router=False, noise_at_evaluation=False,
        gate_noise=True, image_at=None, text_at=None, selector="ddas", ddas=None, **training,
    ):  # fmt: skip
        if selector not in ("ddas", "known", "none"):
            raise ValueError(f"selector is 'ddas', 'known' or 'none', not {selector!r}.")
        if selector == "ddas" and reference is None:
            raise ValueError("the selector 'ddas' needs reference images: pass reference=benchmark.reference.")
        own = {
            "num_experts": num_experts, "top_k": top_k, "bottleneck": bottleneck, "text_router_token": text_router_token,
            "load_balance_weight": load_balance_weight, "freeze": freeze, "shared_router": shared_router,
            "noise_at_evaluation": noise_at_evaluation, "gate_noise": gate_noise, "image_at": image_at,
            "text_at": text_at, "selector": selector, "ddas": ddas,
        }  # fmt: skip
        super().__init__(clip, tokenizer, own, learning_rate, **training)
        seed_everything(self.settings["seed"])
        self.model = MoEClip(
            clip, num_experts, top_k, bottleneck, text_router_token=text_router_token,
            checkpointing=self.settings["checkpointing"], image_at=image_at, text_at=text_at,
            gate_noise=gate_noise,
        )  # fmt: skip
        self.reference, self.selector = reference, selector
        self.ddas = DDAS(clip, **(ddas or {})) if selector == "ddas" else None
        self.learned = 0

    @property
    def knows_tasks(self):
        return self.selector == "known"

    def learn(self, task):
        choice, model = self.settings, self.model
        seed_everything(choice["seed"] + self.learned)
        if not (choice["shared_router"] and model.tasks):
            model.add_task(task.name)
        encode = {"encode_image": partial(model.encode_image, task=model.tasks[-1]),
                  "encode_text": partial(model.encode_text, task=model.tasks[-1])}  # fmt: skip
        cross_entropy = self.cross_entropy(task, **encode, label_smoothing=choice["label_smoothing"])

        def loss(images, labels):
            value = cross_entropy(images, labels)
            if choice["load_balance_weight"]:
                value = value + choice["load_balance_weight"] * model.balance_loss()
            return value

        self.fit(task, model, loss)
        model.freeze_used_experts(choice["freeze"])
        self.learned += 1
        self.set_evaluation_noise()
        if self.ddas:
            if not len(self.ddas.autoencoders):
                self.ddas.learn_reference(self.reference)
            self.ddas.learn_task(task.train, task.val)

    def set_evaluation_noise(self):
        """Let the routers draw noise in evaluation, too, if the settings say so."""
        if self.settings["noise_at_evaluation"]:
            for layer in self.model.layers:
                layer.routers.train()

    def select(self, images, task):
        """The router of each image: LongTensor (B,), -1 for the original CLIP."""
        if self.selector == "ddas" and self.model.tasks:
            return self.ddas.select(images.to(self.device))
        known = self.model.tasks.index(task.name) if task.name in self.model.tasks else -1
        return torch.full((len(images),), len(self.model.tasks) - 1 if self.selector == "none" else known)

    def scores(self, images, task, selected=None):
        """`selected`: what `select` gave, where it is known already."""
        selected = self.select(images, task) if selected is None else selected
        selected = selected.clamp(max=len(self.model.tasks) - 1)  # tasks that share one router
        features = self.model.encode_image(images.to(self.device), selected)
        scores = features.new_empty(len(images), len(task.classnames))
        for router in selected.unique().tolist():
            rows = selected == router
            embeddings = self.embeddings(task, partial(self.model.encode_text, task=router), key=router)
            scores[rows] = class_logits(self.clip, features[rows], embeddings)
        return scores

    def state_dict(self):
        state = {f"model.{k}": v for k, v in self.model.adapter_state_dict().items()}
        state["learned"] = torch.tensor(self.learned)
        if self.ddas:
            state |= {f"ddas.{k}": v for k, v in self.ddas.selector_state_dict().items()}
        return state

    def load_state_dict(self, state):
        super().load_state_dict(state)

        def part(prefix):
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        self.model.load_adapter_state_dict(part("model."))
        self.learned = int(state["learned"])
        self.set_evaluation_noise()
        if self.ddas:
            self.ddas.load_selector_state_dict(part("ddas."))

    @property
    def trained_parameters(self):
        """Experts and routers, and the selector's autoencoders."""
        return sum(
            count_parameters(module) for module in (*self.model.layers, *(self.ddas.autoencoders if self.ddas else ()))
        )
