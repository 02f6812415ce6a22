"""`telemetryd send`: sFlow datagrams to a collector, from captures or the example city, with faults on request."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.ingest.generate.send import Sending, Stretch
    from telemetryd.ingest.generate.truth import TrafficTruth

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

CITY_SECONDS: Final = 60.0
ENDLESS_S: Final = 1e6
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
_FAULTS: Final = "Faults"
_CITY: Final = "With --city"


@app.command()
def send(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE...]", help="pcap or pcapng, also .gz and .zst.")
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The collector.")] = "127.0.0.1:6343",
    city: Annotated[bool, typer.Option("--city", help="Generate a city's traffic.")] = False,
    rate: Annotated[float | None, typer.Option(min=1, help="Flow samples a second.")] = None,
    speed: Annotated[str | None, typer.Option(help="realtime (default), a multiple such as 10x, or max.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.001, help="End after so long; default: 60 with --city, all of the files.")
    ] = None,
    loss: Annotated[float, typer.Option(min=0, max=1, help="Share of datagrams that are lost on the way.")] = 0,
    reorder: Annotated[float, typer.Option(min=0, max=1, help="Share that come up to 4 places late.")] = 0,
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="Share that come twice.")] = 0,
    burst: Annotated[
        str | None, typer.Option(metavar="Fx:ON/EVERY", help="F times as fast for ON of every EVERY seconds.")
    ] = None,
    restart_agent: Annotated[
        list[str] | None,
        typer.Option(metavar="[ADDRESS@]AT", help="With --city: an exporter restarts at this second; repeatable."),
    ] = None,
    rate_change: Annotated[
        list[str] | None,
        typer.Option(metavar="N@AT", help="With --city: sampling goes over to 1 in N at this second; repeatable."),
    ] = None,
    wrap: Annotated[bool, typer.Option("--wrap", help="With --city: 32-bit numbers wrap soon.")] = False,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=1000, metavar="SAMPLES", help="With --city --rate: repeat so many samples, for the highest rates."
        ),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option("--registry", "-r", envvar="TELEMETRYD_REGISTRY", help="With --city; default: the example city."),
    ] = None,
    start: Annotated[
        datetime | None, typer.Option("--at", help="With --city: local time at which event time begins; default: now.")
    ] = None,
    scale: Annotated[float, typer.Option(min=0, help="With --city: multiplies all of the day's traffic.")] = 1.0,
    sampling: Annotated[int | None, typer.Option(min=1, help="With --city: 1 in N everywhere.")] = None,
    sources: Annotated[int, typer.Option(min=0, max=250, help="Send from so many addresses, from 127.0.0.1 on.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the random numbers: the same seed sends the same.")] = 1,
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port of the datagrams in the files.")] = 6343,
    all_udp: Annotated[bool, typer.Option("--all-udp", help="Every UDP payload that parses as sFlow.")] = False,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="The target may be another machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts of each exporter as JSON.")] = False,
) -> None:
    """Send sFlow datagrams to a collector and say exactly what was sent, exporter by exporter.

    The datagrams come from captures, unchanged, or are generated for the example city. --rate sends by the
    count of flow samples; --speed by the time stamps. Only targets on the loopback interface are accepted.

    Exit codes: 0 sent, 1 the kernel would not send or a capture is damaged, 2 invalid input, 130 interrupted.

    Example: telemetryd send --city --to 127.0.0.1:6343 --rate 50000 --seconds 30 --loss 0.01
    """
    from telemetryd.cli.replay import parse_speed
    from telemetryd.ingest.generate.pace import Pace, parse_burst
    from telemetryd.ingest.generate.send import Faults, Sending, parse_target

    if city == bool(files):
        raise InputError("give either captures or --city")
    if rate is not None and speed is not None:
        raise InputError("give --rate or --speed, not both: a rate counts samples, a speed follows the time stamps")
    events = {
        "restarts": [_restart(text) for text in restart_agent or []],
        "rate_changes": [_rate_change(text) for text in rate_change or []],
        "wrap": wrap,
    }
    if not city and any(events.values()):
        raise InputError("--restart-agent, --rate-change and --wrap need --city: captures are sent as they are")
    if repeat is not None and (rate is None or not city or any(events.values())):
        raise InputError("--repeat goes with --city --rate, and without --restart-agent, --rate-change and --wrap")
    factor = None if rate is not None else parse_speed(speed or "realtime")
    duration = seconds if seconds is not None else CITY_SECONDS if city else None
    target = parse_target(to, allow_remote)
    run = Sending(
        target,
        Pace(rate, factor, parse_burst(burst) if burst else None),
        Faults(loss, reorder, duplicate),
        sources=sources,
        seconds=duration,
        seed=seed,
        on_progress=_Progress(duration) if sys.stderr.isatty() else lambda sending: None,
    )
    if city:
        assert duration is not None
        stretches = _city(registry, rate, factor, run, duration, repeat, start, scale, sampling, seed, events)
    else:
        from telemetryd.ingest.generate.loads import capture_stretches

        stretches = capture_stretches(files or [], None if all_udp else port)
    run.run(stretches)
    if as_json:
        from telemetryd.cli.output import write_json

        write_json(document(run))
    else:
        _show(run)
    if run.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _city(
    registry: Path | None,
    rate: float | None,
    factor: float | None,
    run: Sending,
    duration: float,
    repeat: int | None,
    start: datetime | None,
    scale: float,
    sampling: int | None,
    seed: int,
    events: dict[str, Any],
) -> Iterator[Stretch]:
    """Generate a little more than is due until the end; bursts and losses need more than the plain rate."""
    from telemetryd.ingest.generate.loads import city_at_rate, city_day, city_repeated
    from telemetryd.registry.locate import default_registry

    directory = registry or default_registry()
    burst = run.pace.burst
    gain = max(1.0, burst.factor if burst else 1.0) / max(1 - run.faults.loss, 0.01)
    if repeat is not None and rate is not None:
        return city_repeated(directory, repeat, seed, rate)
    if rate is not None:
        return city_at_rate(directory, rate, duration * gain * 1.1 + 2, seed, **events)
    # as fast as it goes, the clock ends it and not the traffic
    event_s = duration * factor * gain + 1 if factor is not None else ENDLESS_S
    first = start if start is not None else time.time_ns()
    traffic = directory.parent / "traffic"
    return city_day(directory, traffic, first, event_s, seed, scale=scale, sampling=sampling, **events)


def _restart(text: str) -> tuple[float, str | None]:
    address, _, at = text.rpartition("@")
    return _second(text, "--restart-agent", at), address or None


def _rate_change(text: str) -> tuple[float, int]:
    rate, _, at = text.rpartition("@")
    if not rate.isdecimal() or not 0 < int(rate) < 1 << 32:
        raise InputError(f"--rate-change {text}: use N@AT, such as 4096@30 for 1 in 4096 from the 30th second on")
    return _second(text, "--rate-change", at), int(rate)


def _second(text: str, option: str, at: str) -> float:
    try:
        second = float(at.removesuffix("s"))
    except ValueError:
        second = -1.0
    if not 0 <= second < 1e9:
        raise InputError(f"{option} {text}: {at!r} is no number of seconds")
    return second


class _Progress:
    """A line on stderr, at most once a second."""

    def __init__(self, duration: float | None) -> None:
        self._duration = duration
        self._shown = time.monotonic()

    def __call__(self, sending: Sending) -> None:
        if time.monotonic() - self._shown < 1:
            return
        self._shown = time.monotonic()
        of = f" of {self._duration:g}" if self._duration else ""
        print(f"\r{sending.elapsed_s:.0f}{of} s", end="\r", file=sys.stderr, flush=True)


def document(run: Sending) -> dict[str, Any]:
    """Return what was sent, ready for JSON."""
    total = run.total()
    return {
        "target": {"address": run.target.address, "port": run.target.port},
        "seconds": round(run.elapsed_s, 6),
        "samples_per_s": round(total.flow_samples / run.elapsed_s, 1) if run.elapsed_s else 0.0,
        "total": asdict(total),
        "refused": run.refused,
        "retries": run.retries,
        "latest_ms": round(run.latest_ns / 1e6, 3),
        "interrupted": run.interrupted,
        "agents": [
            {"agent": one.agent if one else None, "sub_agent": one.sub_agent if one else None, **asdict(counts)}
            for one, counts in sorted(run.agents.items(), key=lambda item: (item[0] is None, item[0] or 0))
        ],
        "truth": _truth(run.truth, run.cut),
    }


def _truth(truth: TrafficTruth | None, cut: bool) -> dict[str, Any] | None:
    """Return what really crossed the metering points; ``complete`` if that is all the samples' traffic."""
    if truth is None:
        return None

    def rows(*names: str) -> list[dict[str, Any]]:
        return [
            {**dict(zip(names, key, strict=True)), "packets": packets, "octets": octets}
            for key, (packets, octets) in sorted(truth.totals.totals(names).items())
        ]

    packets, octets = truth.totals.totals(()).get((), (0, 0))
    return {
        "complete": not cut,
        "packets": packets,
        "octets": octets,
        "departments": rows("direction", "department"),
        "applications": rows("direction", "application"),
    }


def _show(run: Sending) -> None:
    total = run.total()
    rate = total.flow_samples / run.elapsed_s if run.elapsed_s else 0.0
    exporters = sum(one is not None for one in run.agents)
    print(
        f"Sent {total.datagrams:,} datagrams ({total.octets / 1e6:,.1f} MB) of {exporters} exporters with "
        f"{total.flow_samples:,} flow samples and {total.counters_samples:,} counters samples in "
        f"{run.elapsed_s:.1f} s: {rate:,.0f} flow samples/s"
    )
    notes = [
        (total.lost, "left out (--loss)"),
        (total.doubled, "sent twice (--duplicate)"),
        (run.refused, "times nobody listened at the target"),
    ]
    for count, what in notes:
        if count:
            print(f"{count:,} {what}")
    if run.latest_ns > 1_000_000_000 and run.pace.samples_per_s is not None:
        print(f"The sender fell up to {run.latest_ns / 1e9:.1f} s behind: this machine cannot send at that rate")
