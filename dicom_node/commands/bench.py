"""``dicom-node bench``: how fast this node receives and sends, beside whatever else is installed here."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from dicom_node.commands import bench_parties as parties
from dicom_node.commands import bench_stow
from dicom_node.commands.bench_parties import Cost, Party
from dicom_node.deliver.destination import Destination, Outgoing

Sender = Callable[[Sequence[Outgoing], Destination, int, bool], None]
MAKERS = {"ct": parties.make_slices, "small": parties.make_small, "multiframe": parties.make_multiframe}
UNITS = {"ct": "slices of 0.5 MB", "small": "objects of 30 kB", "multiframe": "MB in one object"}
SENDERS: dict[str, Sender] = {"storescu": parties.send_by_storescu, "node": parties.send_by_node}

rounds_option = click.option("--rounds", default=3, show_default=True, help="Runs of each, in turn.")
nagle_option = click.option(
    "--nagle", is_flag=True, help="Leave Nagle's algorithm on in DCMTK and Orthanc: their default."
)


@click.group()
def bench() -> None:
    """Measure receiving and sending on this machine; the ratios travel, the numbers do not."""


@bench.command()
@click.option("--what", type=click.Choice(list(MAKERS)), default="ct", show_default=True, help="What is sent.")
@click.option("--objects", default=300, show_default=True, help="How many; for multiframe: how many MB.")
@click.option("--associations", default=1, show_default=True, help="At a time.")
@click.option("--only", multiple=True, help="Receivers whose name begins so; may be given again.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Where they write. Default: temporary."
)
@click.option(
    "--by", "protocol", type=click.Choice(["dimse", "stow"]), default="dimse", show_default=True,
    help="stow: this node alone, by C-STORE and by STOW-RS in turn.",
)  # fmt: skip
@click.option("--sender", "by", type=click.Choice(list(SENDERS)), help="Default: storescu, where it is installed.")
@rounds_option
@nagle_option
def ingest(
    what: str, objects: int, associations: int, only: tuple[str, ...], folder: Path | None, by: str | None,
    protocol: str, rounds: int, nagle: bool,
) -> None:  # fmt: skip
    """Receive: this node, then storescp and Orthanc when they are installed, in turn, from the same sender.

    storescu takes as much CPU as a good receiver: where cores are few, "node" shows more of the receivers.
    """
    by = by or ("storescu" if parties.program("storescu") else "node")
    pairs = _by_stow_too(SENDERS[by]) if protocol == "stow" else [(p, SENDERS[by]) for p in parties.receivers()]
    chosen = [(party, sender) for party, sender in pairs if not only or party.name.startswith(only)]
    with tempfile.TemporaryDirectory() as source:
        files = MAKERS[what](Path(source), objects)
        megabytes = sum(file.path.stat().st_size for file in files) / 1e6
        costs: dict[str, list[Cost]] = {party.name: [] for party, _ in chosen}
        for _ in range(rounds):
            for party, sender in chosen:
                with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as target:
                    run = _Run(files=files, sender=sender, associations=associations, nodelay=not nagle)
                    costs[party.name].append(run.against(party, Path(target)))
    click.echo(f"{objects} {UNITS[what]}, {associations} association(s), {rounds} runs in turn, "
               f"Nagle's algorithm {'on' if nagle else 'off'}, sent by {by}\n")  # fmt: skip
    _table(costs, len(files), megabytes, "receiver")
    for name, runs in costs.items():
        beside = costs.get(f"{name}{bench_stow.SUFFIX}")
        if beside:
            click.echo(f"\n{name}: STOW-RS has {_seconds(runs) / _seconds(beside):.2f} times the rate of C-STORE")


def _by_stow_too(sender: Sender) -> list[tuple[Party, Sender]]:
    """This node, each of its ways once by C-STORE and once by STOW-RS."""
    port = parties.free_port()

    def post(files: Sequence[Outgoing], to: Destination, associations: int, nodelay: bool) -> None:
        del nodelay  # nothing small is sent before the end
        bench_stow.send_by_stow(files, to, associations, port)

    found: list[tuple[Party, Sender]] = []
    for durability, party in parties.nodes():
        found += [(party, sender), (bench_stow.party(durability, party.name, port), post)]
    return found


class _Run:
    """One way of sending, tried on one receiver after the other."""

    def __init__(self, *, files: Sequence[Outgoing], sender: Sender, associations: int, nodelay: bool) -> None:
        self._files, self._sender, self._associations, self._nodelay = files, sender, associations, nodelay

    def against(self, party: Party, target: Path) -> Cost:
        """Start the receiver, send, let it finish what it was sent, look at what it used."""
        with parties.started(party, target, nodelay=self._nodelay) as (to, process):
            before, began = parties.used(process), time.perf_counter()
            self._sender(self._files, to, self._associations, self._nodelay)
            seconds = time.perf_counter() - began
            until = time.monotonic() + 60
            while not party.settled(target) and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.1)
            return Cost(seconds=seconds, cpu_seconds=parties.used(process) - before, peak_mb=parties.peak_mb(process))


@bench.command(name="send")
@click.option("--what", type=click.Choice(list(MAKERS)), default="ct", show_default=True, help="What is sent.")
@click.option("--objects", default=300, show_default=True, help="How many; for multiframe: how many MB.")
@click.option("--associations", default=1, show_default=True, help="At a time.")
@rounds_option
@nagle_option
def send_(what: str, objects: int, associations: int, rounds: int, nagle: bool) -> None:
    """Send: this node's sender and DCMTK's storescu, in turn, to a storescp that keeps nothing."""
    path = parties.program("storescp")
    if path is None:
        raise click.ClickException("bench send needs DCMTK (storescp, storescu): install it")
    discard = Party(
        name="storescp",
        command=lambda _folder, port: [
            path,
            "--ignore",
            "--fork",
            "+xa",
            "-pdu",
            "131072",
            "--aetitle",
            parties.AE_TITLE,
            str(port),
        ],
    )
    senders: dict[str, Sender] = {"this node": parties.send_by_node, "storescu": parties.send_by_storescu}
    costs: dict[str, list[Cost]] = {name: [] for name in senders}
    with tempfile.TemporaryDirectory() as folder:
        files = MAKERS[what](Path(folder), objects)
        megabytes = sum(file.path.stat().st_size for file in files) / 1e6
        with parties.started(discard, Path(folder), nodelay=not nagle) as (to, _process):
            for _ in range(rounds):
                for name, sender in senders.items():
                    costs[name].append(_timed(lambda sender=sender: sender(files, to, associations, True)))  # type: ignore[misc]
    click.echo(f"{objects} {UNITS[what]}, {associations} association(s), {rounds} runs in turn, "
               f"Nagle's algorithm {'on' if nagle else 'off'} in the receiver\n")  # fmt: skip
    _table(costs, len(files), megabytes, "sender")


def _timed(work: Callable[[], None]) -> Cost:
    import resource  # not on every system

    def cpu() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before, began = cpu(), time.perf_counter()
    work()
    return Cost(seconds=time.perf_counter() - began, cpu_seconds=cpu() - before)


def _seconds(runs: Sequence[Cost]) -> float:
    return statistics.median(run.seconds for run in runs)


def _table(costs: dict[str, list[Cost]], objects: int, megabytes: float, what: str) -> None:
    """Markdown: medians, with the range of the rate; every ratio is to the first row."""
    first = _seconds(next(iter(costs.values())))
    click.echo(f"| {what} | objects/s (range) | MB/s | rate, first = 1 | CPU s/GB | peak RSS MB |")
    click.echo("|---|---|---|---|---|---|")
    for name, runs in costs.items():
        seconds = _seconds(runs)
        rates = sorted(objects / run.seconds for run in runs)
        cpu = statistics.median(run.cpu_seconds for run in runs) / (megabytes / 1000)
        peak = max(run.peak_mb for run in runs)
        click.echo(
            f"| {name} | {objects / seconds:.1f} ({rates[0]:.1f} to {rates[-1]:.1f}) | {megabytes / seconds:.0f} "
            f"| {first / seconds:.2f} | {cpu:.2f} | {f'{peak:.0f}' if peak else '-'} |"
        )
