"""One adapter a task, the task known: the upper bound for everything that shares adapters. Built in notebook 03."""

from functools import partial

from ..clip import class_logits, count_parameters, encode_text_trimmed
from ..moe import MoEClip
from .base import TrainedMethod, seed_everything


class AdapterPerTask(TrainedMethod):
    """A frozen CLIP with a single expert a task in every block; nothing is shared, so nothing is forgotten.

    At test the task is told; tasks not yet learned get the original CLIP.
    """

    name = "adapter-per-task"
    knows_tasks = True
    rates = (3e-3, 6e-3, 1e-2, 2e-2)

    def __init__(self, clip, tokenizer, bottleneck=64, learning_rate=2e-2, **training):
        super().__init__(clip, tokenizer, {"bottleneck": bottleneck}, learning_rate, **training)
        self.models = {}

    def new_model(self):
        """A single expert in every block; the router of its one task has nothing to choose."""
        choice = self.settings
        return MoEClip(self.clip, 1, 1, choice["bottleneck"], checkpointing=choice["checkpointing"])

    def encoders(self, task):
        """encode_image and encode_text for a task: through its adapters, or CLIP's own."""
        if task.name not in self.models:
            return self.clip.encode_image, partial(encode_text_trimmed, self.clip)
        model = self.models[task.name]
        return partial(model.encode_image, task=task.name), partial(model.encode_text, task=task.name)

    def learn(self, task):
        choice = self.settings
        seed_everything(choice["seed"] + len(self.models))
        model = self.models[task.name] = self.new_model()
        model.add_task(task.name)
        loss = self.cross_entropy(task, *self.encoders(task), choice["label_smoothing"])
        self.fit(task, model, loss)

    def scores(self, images, task):
        encode_image, encode_text = self.encoders(task)
        return class_logits(self.clip, encode_image(images.to(self.device)), self.embeddings(task, encode_text))

    def state_dict(self):
        models = self.models.values()
        return {f"{i}.{k}": v for i, model in enumerate(models) for k, v in model.adapter_state_dict().items()}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.models = {}
        for i in sorted({int(key.split(".")[0]) for key in state}):
            model = self.new_model()
            model.load_adapter_state_dict(
                {k.removeprefix(f"{i}."): v for k, v in state.items() if k.startswith(f"{i}.")}
            )
            self.models[model.tasks[0]] = model

    @property
    def trained_parameters(self):
        return sum(count_parameters(layer) for model in self.models.values() for layer in model.layers)
