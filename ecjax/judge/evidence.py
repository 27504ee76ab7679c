"""The evidence for a width where answers have errors: what one neuron less would cost, what one more would explain."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A hidden layer's width beside its neighbours, by log likelihoods in nats.

    Attributes:
        layer: Which hidden layer; the first is 1.
        width: Its neurons.
        fewer: What the best network with one neuron less loses.
        more: What the best one with one neuron more gains; the best that was found.
        chance: What the parameters of one neuron gain by chance at most; see `Judge.chance`.
        student: What the best of the wide students gains, less what its parameters gain by chance; None where there
            was none to compare with.
    """

    layer: int
    width: int
    fewer: float
    more: float
    chance: float
    student: float | None = None

    @property
    def fewer_refuted(self) -> bool:
        """Whether one neuron less is out of the question."""
        return self.fewer > self.chance

    @property
    def more_is_chance(self) -> bool:
        """Whether one more explains nothing that chance does not."""
        return self.more <= self.chance and (self.student is None or self.student <= 0)

    @property
    def stands(self) -> bool:
        """Whether the width is what the answers say."""
        return self.fewer_refuted and self.more_is_chance

    def words(self) -> str:
        """The evidence in a line."""
        neurons = "1 neuron" if self.width == 1 else f"{self.width} neurons"
        verdict, lower = ("are refuted" if self.fewer_refuted else "explain as much"), f"{self.fewer:,.0f} lower"
        fewer = f"{self.width - 1} {verdict} (log likelihood {lower}, chance is {self.chance:.0f})"
        beside = "no more" if self.more <= self.chance else "more"
        more = f"one more explains {beside} than chance ({self.more:,.0f} higher)"
        wide = "" if self.student is None or self.student <= 0 else "; so do wide students"
        return f"layer {self.layer}: {neurons}; {fewer}; {more}{wide}"
