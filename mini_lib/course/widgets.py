"""Explorers for JupyterLab and Colab: a few controls over a function that draws a figure.

Used in notebooks 01, 02, 04 and 06. A notebook calls the same function once without controls, right above: where there
are none, on GitHub, in print or under papermill, nothing is lost.
"""

from collections.abc import Callable, Sequence
from typing import Any

from IPython.display import clear_output
from ipywidgets import Dropdown, FloatLogSlider, IntSlider, Output, Text, VBox
from matplotlib.figure import Figure

from .. import plots

STYLE = {"style": {"description_width": "110px"}, "layout": {"width": "520px"}}


class Explorer(VBox):
    """Controls, and below them the figure that `draw` makes of their values; it is drawn anew when one of them moves.

    draw: called with the controls' values by name -> figure; the sentence of a ValueError is shown in its place. alt:
    the figure's alternative text, with the controls' names in braces.
    """

    def __init__(self, draw: Callable[..., Figure], alt: str, **controls: Any):
        self.draw, self.alt, self.controls, self.output = draw, alt, controls, Output()
        super().__init__([*controls.values(), self.output])
        for control in controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def redraw(self, change: Any = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        with self.output:
            clear_output(wait=True)
            try:
                figure = self.draw(**values)
            except ValueError as error:
                print(error)
            else:
                plots.show(figure, self.alt.format(**values))

    def __repr__(self) -> str:  # what is seen where there are no controls
        return "Run this cell in JupyterLab or Colab to move its controls; the figure above shows one position."


def class_names(text: str) -> list[str]:
    """The names in a text, separated by commas. Raises ValueError where there is none, or one of them twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names:
        raise ValueError("There is no class name yet: type some, separated by commas, for instance: a star, a heart.")
    if twice:
        raise ValueError(f"The name {twice[0]!r} is there twice: every class needs a name of its own.")
    return names


def zero_shot_names(
    draw: Callable[[str, list[str]], Figure], pictures: Sequence[str], names: Sequence[str]
) -> Explorer:
    """Class names of one's own. draw(picture, names) -> figure; pictures: to choose from; names: to begin with."""
    return Explorer(
        lambda picture, names: draw(picture, class_names(names)),
        "The picture {picture}, and the probabilities of these names for it: {names}.",
        picture=Dropdown(options=pictures, description="picture", **STYLE),
        names=Text(", ".join(names), description="class names", continuous_update=False, **STYLE),
    )


def matrix_over_time(draw: Callable[[int], Figure], tasks: int) -> Explorer:
    """The accuracy matrix as it grows. draw(learned) -> figure; tasks: how many there are."""
    learned = IntSlider(tasks, 0, tasks, description="tasks learned", continuous_update=False, **STYLE)
    return Explorer(draw, "The accuracy matrix after {learned} tasks, and that moment task by task.", learned=learned)


def experts(
    draw: Callable[[str, str, str], Figure], routers: Sequence[str], images: Sequence[str], names: Sequence[str]
) -> Explorer:
    """Who answers. draw(router, image, name) -> figure; each is chosen from its list."""
    return Explorer(
        draw,
        "Gates of all experts in every block, routers of {router}: for the image {image} and the class name {name}.",
        router=Dropdown(options=routers, description="routers", **STYLE),
        image=Dropdown(options=images, description="image", **STYLE),
        name=Dropdown(options=names, description="class name", **STYLE),
    )


def threshold(
    draw: Callable[[str, str, float], Figure], scores: Sequence[str], tasks: Sequence[str], task: str
) -> Explorer:
    """A threshold to move. draw(score, task, factor) -> figure; factor: a multiple of the usual threshold."""
    return Explorer(
        draw,
        "ROC curve of {task} by {score}, with the working point at {factor:.2f} times the usual threshold, and the "
        "images that flip.",
        score=Dropdown(options=scores, description="score", **STYLE),
        task=Dropdown(options=tasks, value=task, description="task", **STYLE),
        factor=FloatLogSlider(
            0.7, base=2, min=-1, max=1, step=0.05, description="factor", continuous_update=False, **STYLE
        ),
    )
