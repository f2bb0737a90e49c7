"""The executor's parts by themselves: memory, devices, what crosses the pipe, health, the record of costs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inference.executors import parcel
from inference.executors.breaker import Breaker
from inference.executors.device import Gpu, Processor, has_gpu, open_device
from inference.executors.measured import Costs
from inference.executors.memory import ran_out
from inference.executors.messages import Measured
from inference.executors.warm import Warm
from inference.executors.watch import Limits, Verdict, Watch
from inference.packages.package import Package, open_package
from inference.pipeline import Outcome
from inference.runtime import OutOfMemory
from storage.facts.errors import Misconfigured, Rejected, Transient
from storage.facts.prediction import Status
from tests import builders
from tests.inference.executors.rig import write_package


class Board:
    """A device with 100 bytes, filled by hand."""

    name = kind = "board"

    def __init__(self) -> None:
        self.filled = 0
        self.warm: Warm | None = None

    def total(self) -> int:
        return 100

    def used(self) -> int:
        return self.filled

    def peak(self) -> int:
        return self.filled

    def forget_peak(self) -> None:
        pass

    def give_back(self) -> None:
        assert self.warm is not None
        self.filled = self.warm.size()

    def probe(self) -> None:
        pass

    def loader(self, size: int) -> Callable[[], str]:
        def load() -> str:
            if self.filled + size > 100:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            self.filled += size
            return f"{size} bytes"

        return load


@pytest.fixture
def board() -> Board:
    made = Board()
    made.warm = Warm(made, budget=60)
    return made


def test_a_loaded_model_is_kept_and_the_least_recently_used_one_goes(board: Board) -> None:
    warm = board.warm
    assert warm is not None
    for name in ("a", "b", "a", "c"):
        assert warm.get((name, "net"), board.loader(25)) == "25 bytes"
    assert warm.packages == {"a", "c"}
    assert board.filled == 50


def test_a_pinned_model_stays_until_memory_runs_out(board: Board) -> None:
    warm = board.warm
    assert warm is not None
    warm.pinned = frozenset({"a"})
    for name in ("a", "b", "c"):
        warm.get((name, 1), board.loader(25))
    assert warm.packages == {"a", "c"}
    assert warm.get(("d", 1), board.loader(80)) == "80 bytes"  # all else had to go
    assert warm.packages == {"d"}


def test_room_is_made_before_a_run_but_not_of_its_own_model(board: Board) -> None:
    warm = board.warm
    assert warm is not None
    warm.get(("a", 1), board.loader(30))
    warm.get(("b", 1), board.loader(30))
    warm.make_room(70, "b")
    assert warm.packages == {"a", "b"}
    warm.make_room(71, "b")
    assert warm.packages == {"b"}
    warm.make_room(1000, "b")
    assert warm.packages == {"b"}


def test_a_model_that_fails_to_load_for_another_reason_is_not_tried_twice(board: Board) -> None:
    warm = board.warm
    assert warm is not None
    warm.get(("a", 1), board.loader(10))

    def broken() -> None:
        raise RuntimeError("unexpected key in the weights")

    with pytest.raises(RuntimeError, match="unexpected key"):
        warm.get(("b", 1), broken)
    assert warm.packages == {"a"}


def test_a_lack_of_memory_is_known_by_whatever_name() -> None:
    import torch

    with pytest.raises(Transient) as caught:
        _translated(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert ran_out(caught.value)
    assert ran_out(MemoryError())
    assert ran_out(OutOfMemory("no room"))
    assert ran_out(RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(Transient("the disk is slow"))


def _translated(error: RuntimeError) -> None:
    try:
        raise error
    except RuntimeError as caught:
        raise Transient("the run failed") from caught


class Cuda:
    """What of torch a GPU is asked through."""

    def __init__(self, answer: int = 499500) -> None:
        self.cuda = self
        self._answer = answer
        self.emptied = 0

    def get_device_name(self, index: int) -> str:
        return f"GPU {index}"

    def mem_get_info(self, index: int) -> tuple[int, int]:
        return (60, 100) if index == 1 else (0, 0)

    def memory_reserved(self, _index: int) -> int:
        return 30

    def memory_allocated(self, _index: int) -> int:
        return 20

    def max_memory_allocated(self, _index: int) -> int:
        return 25

    def empty_cache(self) -> None:
        self.emptied += 1

    def arange(self, _count: int, device: str) -> SimpleNamespace:
        if self._answer < 0:
            raise RuntimeError(f"CUDA error: an illegal memory access was encountered on {device}\nmore")
        return SimpleNamespace(sum=lambda: SimpleNamespace(item=lambda: self._answer))


def test_a_gpu_counts_what_other_programs_leave_it() -> None:
    torch = Cuda()
    gpu = Gpu(torch, "cuda:1")
    assert (gpu.kind, gpu.total(), gpu.used(), gpu.peak()) == ("GPU 1", 90, 20, 25)
    gpu.give_back()
    assert torch.emptied == 1
    gpu.probe()


def test_a_gpu_that_computes_wrongly_or_not_at_all_is_found_out() -> None:
    with pytest.raises(Transient, match="computes wrongly"):
        Gpu(Cuda(1), "cuda:1").probe()
    with pytest.raises(Transient, match=r"illegal memory access was encountered on cuda:1$"):
        Gpu(Cuda(-1), "cuda:1").probe()


def test_a_gpu_that_is_not_there_is_the_operators_matter() -> None:
    with pytest.raises(Misconfigured, match="there is no device cuda:7"):
        open_device("cuda:7", 1)


def test_a_gpu_is_told_by_its_driver(tmp_path: Path) -> None:
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)


def test_the_processor_counts_this_process() -> None:
    device = Processor(10**9)
    device.forget_peak()
    before = device.used()
    block = np.ones(50_000_000 // 8)
    assert device.used() - before > 40_000_000
    del block
    assert device.peak() - before > 40_000_000
    assert device.total() == 10**9


def test_an_answer_crosses_with_its_arrays_in_a_file(tmp_path: Path) -> None:
    prediction = builders.prediction(builders.slices(2, 4, 4))
    mask = np.arange(60_000, dtype=np.uint8).reshape(10, 60, 100)
    heat = np.linspace(0, 1, 6000, dtype=np.float32).reshape(10, 6, 100)
    sent = Outcome(prediction=prediction, mask=mask, mask_frames=(), arrays=(heat, heat[:, ::2]))
    body, sizes = parcel.pack(sent, tmp_path / "scratch")
    assert len(body) < 40_000
    got = parcel.unpack(body, sizes, tmp_path / "scratch")
    (tmp_path / "scratch").unlink()
    assert got.prediction == prediction
    np.testing.assert_array_equal(got.mask, mask)
    np.testing.assert_array_equal(got.arrays[0], heat)
    np.testing.assert_array_equal(got.arrays[1], heat[:, ::2])


def test_a_cut_off_file_is_no_answer(tmp_path: Path) -> None:
    body, sizes = parcel.pack(
        Outcome(prediction=builders.prediction(builders.slices(2, 4, 4)), mask=np.ones((9, 9, 9), np.uint8)),
        tmp_path / "s",
    )
    os.truncate(tmp_path / "s", 100)
    with pytest.raises(Rejected, match="holds 100 bytes, 729"):
        parcel.unpack(body, sizes, tmp_path / "s")


def test_members_of_our_enumerations_are_known_however_a_python_names_them() -> None:
    by_name = b"cbuiltins\ngetattr\n(cstorage.facts.prediction\nStatus\nVNOT_ATTEMPTED\ntR."
    by_value = b"cstorage.facts.prediction\nStatus\n(V" + Status.NOT_ATTEMPTED.encode() + b"\ntR."
    assert parcel.hear(by_name) is parcel.hear(by_value) is Status.NOT_ATTEMPTED


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Hostile()),
        pickle.dumps(subprocess.Popen),
        b"cinference.pipeline\nnpt\n.",
        b"cinference.pipeline\npredict\n.",
        b"cstorage.facts.wire\nfrom_json\n.",
        b"cstorage.ledger\nLedger\n.",
        b"cnumpy\nload\n.",
        b"cbuiltins\ngetattr\n(cstorage.facts.prediction\nStatus\nV__class__\ntR.",
        b"cbuiltins\ngetattr\n(cstorage.facts.prediction\nPrediction\nV__init__\ntR.",
        b"cbuiltins\ngetattr\n(cnumpy\nndarray\nVtofile\ntR.",
        b"\x80\x05garbage",
        b"",
    ],
)
def test_a_slot_can_say_nothing_but_facts(data: bytes) -> None:
    with pytest.raises(Rejected, match="no answer that can be understood"):
        parcel.hear(data)


def test_one_bad_package_takes_no_device_out_but_different_ones_do() -> None:
    breaker = Breaker(patience=3, probe_seconds=60)
    assert not any(breaker.failed("bad", "x", now) for now in range(10))
    assert breaker.failed("other", "y", 10)
    assert not breaker.may_start(69)
    assert breaker.may_start(70)
    assert not breaker.failed(None, "again", 70)  # it is out already
    assert not breaker.may_start(129)
    assert breaker.worked()
    assert breaker.may_start(129)
    assert not breaker.worked()


def test_a_device_that_does_not_start_is_out_after_some_trials_and_a_good_run_forgives() -> None:
    breaker = Breaker(patience=3, probe_seconds=60)
    assert [breaker.failed(None, "x", now) for now in range(2)] == [False, False]
    breaker.worked()
    assert [breaker.failed(None, "x", now) for now in range(3)] == [False, False, True]


def judged(watch: Watch, now: float, used: float = 0.0, resident: int = 0) -> Verdict | None:
    return watch.judge(now, used, resident)


def watched() -> Watch:
    limits = Limits(stall=10, give_way=5, memory=1000, grace=1)
    return Watch(started=100.0, deadline=50.0, limits=limits)


def test_a_silent_run_may_compute_up_to_its_deadline() -> None:
    watch = watched()
    assert [judged(watch, 100.0 + t, used=float(t)) for t in range(1, 50)] == [None] * 49
    assert judged(watch, 151.0, used=50.0) is Verdict.DEADLINE


def test_a_run_that_does_nothing_or_passes_no_checkpoint_any_more_is_stalled() -> None:
    watch = watched()
    assert judged(watch, 109.0) is None
    assert judged(watch, 111.0) is Verdict.IDLE
    watch = watched()
    watch.passed(105.0)
    assert judged(watch, 114.0, used=5.0) is None
    assert judged(watch, 116.0, used=6.0) is Verdict.STALLED


def test_memory_and_a_deaf_ear_end_a_run() -> None:
    watch = watched()
    assert judged(watch, 101.0, resident=1001) is Verdict.MEMORY
    watch.asked = 101.0
    assert judged(watch, 105.0) is None
    assert judged(watch, 107.0, used=1.0) is Verdict.WAY


@pytest.fixture
def package(tmp_path: Path) -> Package:
    write_package(tmp_path / "models", "p", weights=b"w" * 1000)
    return open_package(tmp_path / "models" / "p" / "1.0.0")


def test_costs_are_measured_kept_and_survive_a_damaged_file(tmp_path: Path, package: Package) -> None:
    path = tmp_path / "run" / "costs.json"
    costs = Costs(path)
    assert costs.cost(package, "cpu") is None
    assert costs.need(package, "cpu") == 512 * 2**20 + 4000
    costs.note(package, "cpu", Measured(seconds=10.0, peak=1000))
    costs.note(package, "cpu", Measured(seconds=20.0, peak=500))
    again = Costs(path)
    known = again.cost(package, "cpu")
    assert known is not None
    assert (known.seconds, known.peak, known.runs) == (pytest.approx(13.0), 1000, 2)
    assert again.need(package, "cpu") == 1200
    assert again.cost(package, "GPU 0") is None
    path.write_text('{"x": 1', encoding="utf-8")
    assert Costs(path).cost(package, "cpu") is None


def test_a_slot_loads_no_torch_and_no_ledger_before_it_must() -> None:
    code = "import inference.executors.slot, sys; print(*(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "sqlalchemy", "pynetdicom", "highdicom"} & set(loaded) == set()
