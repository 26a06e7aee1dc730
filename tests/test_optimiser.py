"""Muon and AdamW as one, held against PyTorch's own; needs the extra ``train``."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

from torch import nn  # noqa: E402

from training.optimiser import Optimiser  # noqa: E402

RATE, STEPS, WARMUP, DECAY = 1e-2, 8, 0.25, 0.1


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 3)
    )
    return network.to(memory_format=torch.channels_last)


def gradients(network: nn.Module) -> None:
    network(torch.rand(5, 1, 8, 8))[:, 0].sum().backward()


def test_filters_are_muons_and_all_else_is_adamws() -> None:
    network, other = small_network(), small_network()
    optimiser = Optimiser(network, RATE, STEPS, WARMUP, DECAY)
    parameters = dict(other.named_parameters())
    matrix = parameters["1.weight"].detach().permute(0, 2, 3, 1).reshape(6, -1).clone()
    rest = [p for name, p in parameters.items() if name != "1.weight"]
    parts = [
        torch.optim.Muon([matrix], RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.ndim > 1], "weight_decay": DECAY},
                {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
            ],
            RATE,
        ),
    ]
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            part,
            RATE,
            total_steps=STEPS,
            pct_start=WARMUP,
            cycle_momentum=False,
            final_div_factor=1e3,
        )
        for part in parts
    ]
    for step in range(STEPS - 1):
        optimiser.zero_grad()
        other.zero_grad()
        for each in (network, other):
            torch.manual_seed(step)
            gradients(each)
        gradient = parameters["1.weight"].grad
        assert gradient is not None
        matrix.grad = gradient.permute(0, 2, 3, 1).reshape(6, -1).clone()
        optimiser.step()
        for part, schedule in zip(parts, schedules, strict=True):
            part.step()
            schedule.step()
        with torch.no_grad():
            parameters["1.weight"].copy_(matrix.view(6, 3, 3, 4).permute(0, 3, 1, 2))
        for name, moved in network.named_parameters():
            torch.testing.assert_close(moved, parameters[name], rtol=1e-5, atol=1e-6)


def test_what_was_saved_goes_on_as_if_nothing_had_happened() -> None:
    whole, broken = small_network(), small_network()
    optimisers = [Optimiser(each, RATE, STEPS, WARMUP, DECAY) for each in (whole, broken)]
    for step in range(6):
        if step == 3:
            saved = optimisers[1].state_dict()
            optimisers[1] = Optimiser(broken, RATE, STEPS, WARMUP, DECAY)
            optimisers[1].load_state_dict(saved)
        for network, optimiser in zip((whole, broken), optimisers, strict=True):
            torch.manual_seed(step)
            optimiser.zero_grad()
            gradients(network)
            optimiser.step()
    for one, other in zip(whole.parameters(), broken.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_network_that_would_not_move_is_refused() -> None:
    with pytest.raises(ValueError, match="channels_last"):
        Optimiser(nn.Sequential(nn.Conv2d(4, 6, 3)), RATE, STEPS, WARMUP, DECAY)


def test_what_is_frozen_stays() -> None:
    network = small_network()
    network[1].requires_grad_(False)
    before = network.state_dict()["1.weight"].clone()
    optimiser = Optimiser(network, RATE, STEPS, WARMUP, DECAY)
    gradients(network)
    optimiser.step()
    moved, first = network.state_dict(), small_network().state_dict()
    assert torch.equal(moved["1.weight"], before)
    assert not torch.equal(moved["4.weight"], first["4.weight"])
