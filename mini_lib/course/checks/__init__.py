"""Immediate checks of the exercises: each takes the reader's function and says in one sentence what is right or wrong.

They compare with the library, or with numbers worked out by hand, on inputs made anew. One file for each of the
notebooks 00 to 06 and for 17.
"""

from typing import TYPE_CHECKING

from ... import offer

__all__ = [
    "check_adapter_forward",
    "check_adapter_parameters",
    "check_auroc",
    "check_block_parameters",
    "check_calibration_error",
    "check_drift_by_task",
    "check_forgetting",
    "check_forgetting_of_path",
    "check_frozen_after",
    "check_gates_from_probabilities",
    "check_interpolation",
    "check_merged",
    "check_most_forgotten",
    "check_random_gate_error",
    "check_rate_with_floor",
    "check_reconstruction_error",
    "check_rounds_until_gone",
    "check_selection",
    "check_still_free",
    "check_switch_loss",
    "check_text_to_image_loss",
    "check_transfer",
    "check_weighted_class_vector",
    "check_zero_shot_change",
    "summary",
]

if TYPE_CHECKING:
    from .adapters import check_adapter_forward, check_adapter_parameters, check_merged
    from .base import summary
    from .clip import check_calibration_error, check_text_to_image_loss, check_weighted_class_vector
    from .ddas import check_auroc, check_reconstruction_error, check_selection
    from .forgetting import check_forgetting, check_interpolation, check_rate_with_floor, check_transfer
    from .freezing import check_drift_by_task, check_frozen_after, check_still_free
    from .mixture import check_block_parameters, check_gates_from_probabilities, check_switch_loss
    from .story import check_most_forgotten, check_zero_shot_change
    from .theory import check_forgetting_of_path, check_random_gate_error, check_rounds_until_gone

_HOMES = {
    ".adapters": ("check_adapter_forward", "check_adapter_parameters", "check_merged"),
    ".base": ("summary",),
    ".clip": ("check_calibration_error", "check_text_to_image_loss", "check_weighted_class_vector"),
    ".ddas": ("check_auroc", "check_reconstruction_error", "check_selection"),
    ".forgetting": ("check_forgetting", "check_interpolation", "check_rate_with_floor", "check_transfer"),
    ".freezing": ("check_drift_by_task", "check_frozen_after", "check_still_free"),
    ".mixture": ("check_block_parameters", "check_gates_from_probabilities", "check_switch_loss"),
    ".story": ("check_most_forgotten", "check_zero_shot_change"),
    ".theory": ("check_forgetting_of_path", "check_random_gate_error", "check_rounds_until_gone"),
}
offer(__name__, {name: home for home, names in _HOMES.items() for name in names})
