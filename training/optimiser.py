"""Muon for the filters, AdamW for the rest (Jordan et al. 2024; Liu et al. 2025).

Muon takes a step of the same length in every direction that a layer's gradient has. On a network of this
size an epoch gets about as far as two of AdamW's (``training/EXPERIMENTS.md``). PyTorch's Muon takes
matrices alone: filters are handed to it as matrices that share their memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Optimiser:
    """Both, as one; both have the same rates, since Muon's steps are made as long as AdamW's.

    Args:
        network: its parameters that require a gradient are learnt.
        rate: highest learning rate.
        steps: in all, over which the rate rises and falls.
        warmup: share of the steps until the rate is highest.
        weight_decay: of filters and linear layers.

    Raises:
        ValueError: the network is not in ``torch.channels_last``: its filters have no matrix in memory.
    """

    def __init__(
        self, network: nn.Module, rate: float, steps: int, warmup: float, weight_decay: float
    ) -> None:
        learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # The first layer of a grey picture has filters of one channel: there is nothing to straighten.
        self._filters = [p for p in learnt if p.ndim == 4 and p.shape[1] > 1]
        self._matrices = [_as_matrix(p.detach()) for p in self._filters]
        if any(
            m.data_ptr() != p.data_ptr() for m, p in zip(self._matrices, self._filters, strict=True)
        ):
            raise ValueError("the network must be in memory format torch.channels_last")
        filters = {id(p) for p in self._filters}
        others = [p for p in learnt if id(p) not in filters]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate)]
        if self._matrices:
            self._parts.append(
                torch.optim.Muon(
                    self._matrices,
                    lr=rate,
                    weight_decay=weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        self._schedules = [
            torch.optim.lr_scheduler.OneCycleLR(
                part, rate, total_steps=max(4, steps), pct_start=min(0.5, warmup),
                cycle_momentum=False, final_div_factor=1e3,
            )
            for part in self._parts
        ]  # fmt: skip

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._filters:
            parameter.grad = None
        for part in self._parts:
            part.zero_grad()

    def step(self) -> None:
        """Move the parameters, and the rate."""
        for filters, matrix in zip(self._filters, self._matrices, strict=True):
            matrix.grad = None if filters.grad is None else _as_matrix(filters.grad)
        for part, schedule in zip(self._parts, self._schedules, strict=True):
            part.step()
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step needs."""
        return {
            "parts": [part.state_dict() for part in self._parts],
            "schedules": [schedule.state_dict() for schedule in self._schedules],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from where another was."""
        for part, state in zip(self._parts, saved["parts"], strict=True):
            part.load_state_dict(state)
        for schedule, state in zip(self._schedules, saved["schedules"], strict=True):
            schedule.load_state_dict(state)


def _as_matrix(filters: Tensor) -> Tensor:
    """(C_out, C_in, K, K) in whichever order of memory as (C_out, K * K * C_in), without a copy if it can."""
    channels_last = filters.contiguous(memory_format=torch.channels_last)
    return channels_last.permute(0, 2, 3, 1).reshape(len(filters), -1)
