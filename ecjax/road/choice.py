"""Settings chosen from the data, where nothing was said, and why."""

from dataclasses import dataclass

from ..data import Data
from ..network import LayerActivation
from .settings import RecoveryConfig


@dataclass(frozen=True)
class Choice:
    """Settings, and what of them was chosen, in words."""

    config: RecoveryConfig
    words: tuple[str, ...]

    def replaced(self, config: RecoveryConfig, *words: str) -> "Choice":
        """With other settings, and more words."""
        return Choice(config, (*self.words, *words))


def chosen_from(data: Data, activations: tuple[LayerActivation, ...]) -> Choice:
    """Settings for these data."""
    return Choice(RecoveryConfig.toy(), ())
