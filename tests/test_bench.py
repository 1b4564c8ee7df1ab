import dataclasses
import json
import os
from itertools import count

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from semisalt.bench import arithmetic, bench, bench_table, plain, timing, workload
from semisalt.bench.arithmetic import matmul, matmul_size, step_flops
from semisalt.bench.methods import MethodCosts, summarise_methods
from semisalt.bench.report import BenchReport, Subject, summarise
from semisalt.bench.timing import Action, interleaved, spread
from semisalt.errors import UserError
from tests.tiny import tiny_channels, tiny_config, tiny_network

CPU = torch.device("cpu")


def planted(methods: MethodCosts | None = None) -> BenchReport:
    subject = Subject(
        device="cpu: abacus",
        threads=2,
        load=0.0,
        encoder="tu-tf_efficientnet_lite0",
        parameters=3_800_000,
        input=(20, 3, 128, 128),
        precision="bf16",
        reasons=(),
        flops=60_000_000_000,
        lovasz="lovasz_hinge",
        mirrored=True,
        predicted=10,
        loaded={1: 320, 0: 160},
        sides={"fp32": 1000, "bf16": 2000},
    )
    times = {
        # The machine is three times slower in the second round: no ratio may notice.
        "step": np.array([1.1, 3.0, 1.0]),
        "bare": np.array([1.0, 3.0, 1.0]) / 1.02,
        "plain": np.array([4.4, 12.0, 4.0]),
        "kept": np.array([2.2, 6.0, 2.0, 8.0]),
        "step beside kept": np.array([1.1, 3.0, 1.0, 4.0]),
        "predict": np.array([0.5, 0.5, 0.25]),
        "lovasz": np.array([0.022, 0.06, 0.02]),
        "loader 1": np.array([0.1, 0.1, 0.1]),
        "loader 0": np.array([0.2, 0.2, 0.2]),
        "matmul fp32": np.array([0.02, 0.02, 0.02]),
        "matmul bf16": np.array([0.055, 0.15, 0.05]),
    }
    return summarise(subject, times, methods)


def planted_methods(teacher: float = 2.6) -> MethodCosts:
    times = {"supervised": 2.0, "mean_teacher": teacher, "co_training": 11.0}
    config = tiny_config(training={"batch": 20}, teacher={"mirrored": True})
    return summarise_methods(config, {name: np.full(5, seconds) for name, seconds in times.items()})


def test_summary_of_planted_times() -> None:
    report = planted()
    assert report.rounds == 3
    assert report.step.median == 1.1
    assert report.training.median == pytest.approx(20 / 1.1)
    assert report.overhead.median == pytest.approx(0.02)
    assert report.speedup.median == pytest.approx(4.0)
    assert report.speedup_kept is not None
    assert report.speedup_kept.median == pytest.approx(2.0)
    assert report.lovasz_share.median == pytest.approx(0.02)
    assert report.inference.median == pytest.approx(10 / 0.5)
    assert report.loaders[1].median == pytest.approx(3200)
    assert report.loaders[0].median == pytest.approx(800)
    assert report.gflops.median == pytest.approx(60 / 1.1)
    assert report.peaks["fp32"].median == pytest.approx(2e9 / 0.02 / 1e9)
    # 60 GFLOP/s of 16 GFLOP in 0.05 s, in every round; not of the fp32 peak.
    assert report.peak_share.median == pytest.approx(60 / 320)


def lines_of(report: BenchReport) -> list[str]:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(bench_table(report))
    return capture.get().splitlines()


def medians(lines: list[str]) -> dict[str, str]:
    """Each row's median, by its name."""
    return {line.split("│")[1].strip(): line.split("│")[2].strip() for line in lines if line.startswith("│")}


def test_report_is_plain_values_and_its_table_fits_80_columns() -> None:
    report = planted()
    assert json.loads(json.dumps(dataclasses.asdict(report)))["overhead"]["median"] == pytest.approx(0.02)
    lines = lines_of(report)
    assert max(map(len, lines)) <= 80
    shown = medians(lines)
    assert not any("teacher" in line or "co-training" in line for line in lines)
    assert shown["loop over bare"] == "+2.00 %"
    assert shown["loop's speed over plain"] == "4.00 ×"
    assert shown["loop's speed over that one"] == "2.00 ×"
    assert shown["share of the bf16 matmul"] == "18.8 %"
    assert shown["step of the loop"] == "1,100 ms"
    assert not any("warning" in line for line in lines)


def test_the_methods_have_rows_of_their_own() -> None:
    report = planted(planted_methods())
    told = json.loads(json.dumps(dataclasses.asdict(report)))["methods"]
    assert told["ratios"]["mean_teacher"]["median"] == pytest.approx(1.3)
    assert (told["mirrored"], told["rounds"]) == (True, 5)
    lines = lines_of(report)
    assert max(map(len, lines)) <= 80
    shown = medians(lines)
    assert shown["supervised, 20 + 20 tiles"] == "2,000 ms"
    assert shown["mean teacher, as many"] == "2,600 ms"
    assert shown["teacher over supervised (≤ 1.6)"] == "1.30 ×"
    assert shown["co-training, as many a view"] == "11,000 ms"
    assert shown["co-training over supervised"] == "5.50 ×"
    slow = medians(lines_of(planted(planted_methods(teacher=3.3))))
    assert slow["teacher over supervised (≤ 1.6)"] == "1.65 × (over)"
    caption = " ".join(" ".join(lines).split())
    assert "5 rounds of their own" in caption
    assert "two passes of the teacher (teacher.mirrored)" in caption


def test_a_busy_machine_is_named() -> None:
    report = planted()
    busy = dataclasses.replace(report, subject=dataclasses.replace(report.subject, load=3.2))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(bench_table(busy))
    assert "busy" in capture.get()
    assert "3.2" in capture.get()


def test_spread_is_median_and_quartiles() -> None:
    found = spread(np.array([5.0, 1.0, 2.0, 4.0, 3.0]))
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


class Clock:
    """Time that only actions move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.order: list[str] = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def action(self, name: str, seconds: float, least: int = 1) -> Action:
        def run() -> None:
            self.order.append(name)
            self.now += seconds

        return Action(run, least)


def test_actions_run_in_turn_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    actions = {"a": clock.action("a", 0.5), "b": clock.action("b", 1.0)}
    times = interleaved(actions, seconds=14, device=CPU, announce=lambda _: None)
    # Three calls of each beforehand take 4.5 s; six rounds of 1.5 s fit into the other 9.5.
    assert clock.order == ["a", "a", "a", "b", "b", "b"] + ["a", "b"] * 6
    assert times["a"].tolist() == [0.5] * 6
    assert times["b"].tolist() == [1.0] * 6


def test_slow_actions_get_three_rounds_after_their_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    times = interleaved({"a": clock.action("a", 30)}, seconds=1, device=CPU, announce=lambda _: None)
    assert len(times["a"]) == 3
    assert len(clock.order) == 6


def test_short_actions_are_repeated_within_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    actions = {
        "a": clock.action("a", 2**-7),
        "b": clock.action("b", 2**-7, least=60),
        "c": clock.action("c", 1, least=9),
    }
    times = interleaved(actions, seconds=0, device=CPU, announce=lambda _: None)
    assert [clock.order.count(name) for name in "abc"] == [3 + 3 * 32, 3 + 3 * 60, 3 + 3]
    assert times["a"].tolist() == [2**-7] * 3


def test_flops_of_convolutions_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 4, 1, stride=2, bias=False),
    )
    first, depthwise, last = 3 * 8 * 9 * 16 * 16, 8 * 9 * 16 * 16, 8 * 4 * 8 * 8
    # A multiplication and an addition; forward, and the gradients of weights and of inputs, which no image needs.
    expected = 2 * 5 * (2 * first + 3 * depthwise + 3 * last)
    assert step_flops(network, (5, 3, 16, 16)) == expected


def test_the_product_is_that_of_the_given_side(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(arithmetic.torch, "mm", lambda a, b, out: made.append((a.shape, b.dtype, out.shape)))
    matmul(64, "bf16", CPU).run()
    assert made == [((64, 64), torch.bfloat16, (64, 64))]


@pytest.mark.parametrize(
    ("seconds", "tried", "best"),
    [
        ({1024: 0.01, 2048: 0.04, 4096: 0.6}, [1024, 2048, 4096], 2048),
        ({1024: 0.01, 2048: 0.07, 4096: 0.3}, [1024, 2048], 2048),
        ({1024: 0.1}, [1024], 1024),
    ],
)
def test_the_fastest_side_wins_and_hopeless_ones_are_not_tried(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], tried: list[int], best: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(arithmetic, "matmul", lambda side, *_: asked.append(side) or Action(lambda: None))
    monkeypatch.setattr(arithmetic, "median_seconds", lambda *_, **__: seconds[asked[-1]])
    assert matmul_size("fp32", CPU) == best
    assert asked == tried


def test_a_bare_step_trains_its_own_copy_alone() -> None:
    network = nn.Sequential(nn.Conv2d(2, 1, 1), nn.Flatten(1, 2))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in network.parameters()]
    seen = []
    action = workload.bare_step(network, optimiser, torch.randn(4, 2, 8, 8), "fp32", "NCHW")
    hook = register_optimizer_step_post_hook(lambda moved, *_: seen.append(moved))
    action.run()
    hook.remove()
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    moved = [parameter for copied in seen for group in copied.param_groups for parameter in group["params"]]
    assert len(moved) == len(before)
    assert not any(torch.equal(old, new) for old, new in zip(before, moved, strict=True))


def test_the_whole_benchmark_on_a_tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semisalt.bench.matmul_size", lambda *_: 64)
    config = tiny_config(method="co_training", training={"batch": 4})  # type: ignore[arg-type]
    told: list[str] = []
    report = bench(config, device=CPU, seconds=0, announce=told.append, methods=["mean_teacher"])
    assert report.rounds == 3
    # One network's supervised step, whatever the recipe's method.
    assert report.subject.parameters == sum(parameter.numel() for parameter in tiny_network().parameters())
    assert report.methods is not None
    assert report.methods.rounds == 3
    assert list(report.methods.ratios) == ["mean_teacher"]
    assert report.subject.input == (4, 3, 128, 128)
    assert report.subject.precision == "fp32"
    assert report.subject.lovasz == "lovasz_hinge"
    assert list(report.loaders) == [0]
    numbers = [value for value in dataclasses.asdict(report).values() if isinstance(value, dict) and "median" in value]
    assert len(numbers) == 13
    assert all(np.isfinite(number["median"]) and number["low"] <= number["high"] for number in numbers)
    assert any("round" in line for line in told)


def test_loader_counts_the_batches_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = count()
    monkeypatch.setattr(workload, "_stream", lambda _trainer, _workers: taken)
    workload.loader(None, 2).run()  # type: ignore[arg-type]
    assert next(taken) == workload.loader_batches(2) == 32


def test_a_plain_script_that_dies_is_an_error_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system kills it for its memory."""
    monkeypatch.setattr(plain, "_serve", _dies)
    channels = tiny_channels()
    refused = pytest.raises(UserError, match=r"ended \(exit code 9\).*training\.batch")
    with refused, plain.plain_step(tiny_config(), channels, (2, 3, 32, 32), CPU, keep=False):
        pass


def _dies(*_: object) -> None:
    os._exit(9)
