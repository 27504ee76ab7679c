"""Figures: how every student ended, what was cut where, and the teacher beside what was recovered.

Every function takes records and returns a Matplotlib figure. None touches Matplotlib's global state, so a figure can be
saved (`figure.savefig`), shown in a notebook (`display(figure)`), or thrown away.
"""

from .clusters import plot_angles as plot_angles
from .clusters import plot_dendrogram as plot_dendrogram
from .clusters import plot_similarity as plot_similarity
from .flows import plot_ends as plot_ends
from .flows import plot_flows as plot_flows
from .flows import plot_neurons as plot_neurons
from .flows import plot_overlaps as plot_overlaps
from .flows import plot_plane as plot_plane
from .losses import plot_history as plot_history
from .losses import plot_losses as plot_losses
from .saving import save_figures as save_figures
from .weights import paired_weights as paired_weights
from .weights import plot_images as plot_images
from .weights import plot_weights as plot_weights
