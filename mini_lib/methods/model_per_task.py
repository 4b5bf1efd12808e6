"""One fine-tuned CLIP a task, the task known: the upper bound that costs the most. Used in notebook 08."""

from functools import partial

from ..clip import class_logits, count_parameters, encode_text_trimmed
from .base import TrainedMethod, seed_everything
from .fine_tuning import trainable_copy


class ModelPerTask(TrainedMethod):
    """Each task gets a copy of the original CLIP, fine-tuned on that task alone; nothing is shared or forgotten.

    At test the task is told; tasks not yet learned get the original CLIP.
    """

    name = "model-per-task"
    knows_tasks = True

    def __init__(self, clip, tokenizer, learning_rate=3e-4, **training):
        super().__init__(clip, tokenizer, {}, learning_rate, **training)
        self.models = {}

    def new_model(self):
        return trainable_copy(self.clip, self.settings["checkpointing"])

    def learn(self, task):
        seed_everything(self.settings["seed"] + len(self.models))
        model = self.models[task.name] = self.new_model()
        encode = model.encode_image, partial(encode_text_trimmed, model)
        self.fit(task, model, self.cross_entropy(task, *encode, self.settings["label_smoothing"]))

    def scores(self, images, task):
        model = self.models.get(task.name, self.clip)
        embeddings = self.embeddings(task, partial(encode_text_trimmed, model))
        return class_logits(model, model.encode_image(images.to(self.device)), embeddings)

    def state_dict(self):
        return {f"{task}/{k}": v for task, model in self.models.items() for k, v in model.state_dict().items()}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.models = {}
        for name, tensor in state.items():
            task, name = name.rsplit("/", 1)
            if task not in self.models:
                self.models[task] = self.new_model()
            self.models[task].state_dict()[name].copy_(tensor)

    @property
    def trained_parameters(self):
        return sum(count_parameters(model, trainable=True) for model in self.models.values())
