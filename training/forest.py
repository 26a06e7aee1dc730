"""Train the other voice model of the paper: a random forest on openSMILE features [2.2].

scikit-learn grows the trees; what is kept and shipped is a network of plain tensors that takes the same
decisions, because the product's runtime knows no trees and a pickle is no format to ship.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from occam_sdk.labels import LABELS

JOBS: Final = min(4, os.cpu_count() or 1)  # threads that grow trees
FLOOR: Final = 1e-4  # of a class no tree votes for: a hundredth of a tree's vote, and no log of 0
INNER: Final = ("feature", "threshold", "left", "right")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the data; names and values as scikit-learn's."""

    n_estimators: int = 100
    min_samples_leaf: int = 3
    max_depth: int | None = None
    max_features: str = "sqrt"
    class_weight: str = "balanced"
    random_state: int = 0


class ForestNetwork(nn.Module):
    """Raw features (N, F) to the logarithm of the trees' mean class shares (N, 7).

    All trees go down one step at a time, together; a leaf leads to itself until the deepest is reached.

    Args:
        feature: (nodes,) int32, which feature a node asks for.
        threshold: (nodes,) float32, at most this goes left.
        left: (nodes,) int32, the node that follows; of a leaf, itself.
        right: (nodes,) int32, likewise.
        value: (nodes, 7) float32, shares of the classes.
        roots: (trees,) int32.
    """

    architecture = "random-forest"

    def __init__(
        self,
        feature: Tensor,
        threshold: Tensor,
        left: Tensor,
        right: Tensor,
        value: Tensor,
        roots: Tensor,
        width: Tensor,
    ) -> None:
        super().__init__()
        self.features = int(width)
        self.width: Tensor
        self.feature: Tensor
        self.threshold: Tensor
        self.left: Tensor
        self.right: Tensor
        self.value: Tensor
        self.roots: Tensor
        self.register_buffer("feature", feature)
        self.register_buffer("threshold", threshold)
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.register_buffer("value", value)
        self.register_buffer("roots", roots)
        self.register_buffer("width", width)
        self.depth = 0
        level = roots
        while len(level := level[left[level] != level]):
            self.depth += 1
            level = torch.cat([left[level], right[level]])

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) to (N, 7)."""
        node = self.roots.long().expand(features.shape[0], -1)
        for _ in range(self.depth):
            asked = features.gather(1, self.feature[node].long())
            node = torch.where(
                asked <= self.threshold[node], self.left[node], self.right[node]
            ).long()
        return self.value[node].mean(1).clamp(min=FLOOR).log()


def train(
    features: NDArray[np.float32], label: NDArray[np.int64], settings: Settings
) -> ForestNetwork:
    """Grow a forest on features (N, F) with labels (N,), and make a network of it."""
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise ImportError("forests need scikit-learn: pip install 'occam-sdk[train]'") from error
    forest = RandomForestClassifier(**asdict(settings), n_jobs=JOBS)
    return network_of(forest.fit(features, label))


def network_of(forest: Any) -> ForestNetwork:
    """The network that decides as a fitted ``RandomForestClassifier`` does."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    node = np.arange(sum(tree.node_count for tree in trees))
    shift = np.repeat(roots, [tree.node_count for tree in trees])
    feature, threshold, left, right = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("feature", "threshold", "children_left", "children_right")
    )
    leaf = left < 0
    counts = np.concatenate([tree.value[:, 0] for tree in trees])
    value = np.zeros((len(node), len(LABELS)), np.float32)
    value[:, forest.classes_] = counts / counts.sum(1, keepdims=True)
    return ForestNetwork(
        feature=torch.from_numpy(np.where(leaf, 0, feature).astype(np.int32)),
        threshold=torch.from_numpy(rounded_down(np.where(leaf, 0, threshold))),
        left=torch.from_numpy(np.where(leaf, node, left + shift).astype(np.int32)),
        right=torch.from_numpy(np.where(leaf, node, right + shift).astype(np.int32)),
        value=torch.from_numpy(value),
        roots=torch.from_numpy(roots.astype(np.int32)),
        width=torch.tensor(forest.n_features_in_),
    ).eval()


def rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest float32 not above: a float32 is at most the one where it is at most the other."""
    nearest = threshold.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > threshold, below, nearest)
