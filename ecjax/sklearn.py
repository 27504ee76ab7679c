"""Recovery as an estimator of scikit-learn: fit, predict, score.

from ecjax.sklearn import ExpandAndCluster

found = ExpandAndCluster(activation="tanh", random_state=0).fit(x, y)
print(found.n_neurons_, found.certified_)
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .data import Answers, Data
from .network import ACTIVATIONS, Layer, Network, respond
from .road import recover


class ExpandAndCluster(RegressorMixin, BaseEstimator):
    """Recovers the network that answered, by Expand-and-Cluster, and predicts with it, in float64.

    Fitting says how sure it is and refuses little: look at `certified_`, and at `recovery_.summary()`, before you
    believe the neurons. A pickled copy has the network without `recovery_`.

    Args:
        activation: Of the unknown network: a name, "auto", or one for each hidden layer.
        hidden_layers: How many it has, or "auto".
        config: All settings, an `ecjax.RecoveryConfig`; by default they are chosen from the data.
        student_width: Neurons in a hidden layer of each student; like what follows, in place of the config's.
        n_students: How many imitate it.
        gamma: Share of the students that a cluster must reach.
        beta: Largest median angle between its members, in radians.
        answers: What is known of y, an `ecjax.Answers`; by default that they are numbers, whatever they look like.
        budget: Seconds until nothing new is begun.
        allow_few_samples: Go on although there are fewer numbers in y than weights in a student; never certified then.
        random_state: Decides the students.

    Attributes:
        recovery_: The `Recovery`, with everything that decided it.
        n_neurons_: How many neurons each hidden layer has.
        certified_: Whether the network is the one that answered, for all that numbers can tell.
        coefs_: Weight matrices, [fan_in, fan_out] as those of `MLPRegressor`.
        intercepts_: Biases.
        n_features_in_: How many inputs there are.
        feature_names_in_: Their names, where x has some.
    """

    def __init__(
        self,
        activation: Any = "tanh",
        *,
        hidden_layers: Any = 1,
        config: Any = None,
        student_width: Any = None,
        n_students: Any = None,
        gamma: Any = None,
        beta: Any = None,
        answers: Any = None,
        budget: Any = None,
        allow_few_samples: Any = True,
        random_state: Any = None,
    ):  # anything: scikit-learn wants it to be refused by `fit`
        self.activation = activation
        self.hidden_layers = hidden_layers
        self.config = config
        self.student_width = student_width
        self.n_students = n_students
        self.gamma = gamma
        self.beta = beta
        self.answers = answers
        self.budget = budget
        self.allow_few_samples = allow_few_samples
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "ExpandAndCluster":
        """Recover the network.

        Args:
            X: Queries, one a row.
            y: Answers, [samples] or [samples, outputs].

        Raises:
            ValueError: If they cannot be used, naming what came and what was wanted.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2)
        y = np.asarray(y, float)
        answers = Answers(kind="numbers") if self.answers is None else self.answers
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with jax.enable_x64(True):
            self.recovery_ = recover(
                Data.of(X, y, answers=answers, inputs=tuple(getattr(self, "feature_names_in_", ()))),
                activation=self.activation,
                hidden_layers=self.hidden_layers,
                key=jr.key(seed),
                config=self.config,
                student_width=self.student_width,
                n_students=self.n_students,
                gamma=self.gamma,
                beta=self.beta,
                budget=self.budget,
                allow_few_samples=self.allow_few_samples,
            )
        self._keep(y.ndim)
        return self

    def _keep(self, ndim: int) -> None:
        """What predictions need, as plain arrays."""
        found = self.recovery_
        self.n_neurons_ = found.widths
        self.certified_ = found.certificate.certified
        self.coefs_ = [np.asarray(layer.w).T for layer in found.network.layers]
        self.intercepts_ = [np.asarray(layer.b) for layer in found.network.layers]
        self._kinds = [kind.name for kind in found.network.activations]
        self._linear = None if found.linear is None else (np.asarray(found.linear.w).T, np.asarray(found.linear.b))
        self._ndim = ndim

    def predict(self, X: Any) -> np.ndarray:
        """Answers of the recovered network, in the shape of the y that it was fitted to."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        with jax.enable_x64(True):
            answers = np.asarray(respond(self._network(), jnp.asarray(X)))
        if self._linear is not None:
            answers = answers + X @ self._linear[0] + self._linear[1]
        return answers[:, 0] if self._ndim == 1 else answers

    def _network(self) -> Network:
        """The network: the recovery's, or, in a copy that was pickled, one of the activations by name."""
        if hasattr(self, "recovery_"):
            return self.recovery_.network
        kinds = [ACTIVATIONS[name] for name in (*self._kinds, "identity")]
        parts = zip(self.coefs_, self.intercepts_, kinds, strict=True)
        return Network(tuple(Layer(jnp.asarray(w.T), jnp.asarray(b), kind) for w, b, kind in parts))

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "recovery_"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True  # of noise that no network of this kind has made
        return tags
