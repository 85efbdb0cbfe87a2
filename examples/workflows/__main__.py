"""`python -m examples.workflows`: a worker is killed and another one finishes; then the other workflows, one by one."""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from examples.workflows.shown import Decided, Heard, Night, Streamed, events, nights, orders, readings
from examples.workflows.takeover import LEASE_MS, ORDERS, Takeover, take_over
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError


class Arguments(argparse.Namespace):
    """Of the command line."""

    directory: Path | None
    readings: int
    as_json: bool


def parse(arguments: list[str]) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m examples.workflows",
        description="Kill one of two workers and see the other one finish; then see the other workflows.",
        epilog="Exit status: 0, or that of the error: 2 for a directory that is not empty, 6 when time was up.",
    )
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="a directory that is empty or not there, in which everything is kept (default: one that is removed)",
    )
    parser.add_argument(
        "--readings", type=int, default=10_000, metavar="N", help="readings for the pipeline (default 10000)"
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON document on standard output")
    return parser.parse_args(arguments, Arguments())


async def _all(directory: Path, found: Arguments) -> None:
    told: dict[str, object] = {}

    def tell(name: str, result: object, lines: list[str]) -> None:
        told[name] = result
        if not found.as_json:
            print("\n".join(lines), flush=True)

    over = await take_over(directory)
    tell("takeover", asdict(over), _of_takeover(over))
    kept = await nights(directory)
    tell("nightly", [night._asdict() for night in kept], _of_nights(kept))
    decided = await orders(directory)
    tell("orders", [each._asdict() for each in decided], _of_orders(decided))
    heard = await events(directory)
    tell("events", heard._asdict(), _of_events(heard))
    through = await readings(directory, found.readings)
    tell("readings", through._asdict(), _of_readings(through))
    if found.as_json:
        print(json.dumps(told, indent=2))


def _of_takeover(seen: Takeover) -> list[str]:
    once = seen.rows == seen.payments == seen.parcels == ORDERS
    return [
        f"Two workers, one database, {ORDERS} orders",
        "  one worker is killed (SIGKILL) with orders under way",
        f"  the other one has them {seen.taken_over_s:.2f} s later; the lease is {LEASE_MS / 1000:.1f} s",
        f"  all orders have ended {seen.finished_s:.2f} s after the kill, {seen.completed} of them completed",
        f"  {seen.rows} rows, {seen.payments} payments, {seen.parcels} parcels{': each once' if once else ''}",
    ]


def _of_nights(seen: list[Night]) -> list[str]:
    lines = ["", "Nightly backup"]
    for number, night in enumerate(seen, 1):
        lines.append(f"  night {number}  {night.status:<9}  in the backup: edition {', '.join(night.editions)}")
        lines += [f"    told: {text}" for text in night.said[-1:]]
    return lines


def _of_orders(seen: list[Decided]) -> list[str]:
    why = ("a person says yes", "a person says no", "no carrier takes it")
    lines = ["", "Orders"]
    for reason, each in zip(why, seen, strict=True):
        undone = f"; undone: {', '.join(each.undone)}" if each.undone else ""
        bank = f"{each.payments} paid, {each.refunds} paid back"
        lines.append(f"  {each.order}  {reason:<19}  {each.status:<9}  row {each.row}, {bank}{undone}")
    return lines


def _of_events(seen: Heard) -> list[str]:
    last = ", ".join(seen.addresses)
    return [
        "",
        "Events",
        f"  {seen.events} events, run {seen.status}: {seen.labels} label, {len(seen.addresses)} address ({last})",
    ]


def _of_readings(seen: Streamed) -> list[str]:
    order = "kept" if seen.in_order else "lost"
    return [
        "",
        "Pipeline",
        f"  {seen.readings} readings through 5 steps in {seen.seconds:.2f} s: {seen.left_out} left out, order {order}",
    ]


def main(arguments: list[str]) -> int:
    """The exit status."""
    found = parse(arguments)
    logging.getLogger("onex").setLevel(logging.CRITICAL)  # failures that belong to the show
    try:
        if found.directory is None:
            with tempfile.TemporaryDirectory(prefix="onex-workflows-") as directory:
                asyncio.run(_all(Path(directory), found))
            return 0
        found.directory.mkdir(parents=True, exist_ok=True)
        if any(found.directory.iterdir()):
            print(f"error {found.directory} is not empty: name another directory, or remove it", file=sys.stderr)
            return EnumCoreErrorCode.VALIDATION_ERROR.exit_status
        asyncio.run(_all(found.directory, found))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return EnumCoreErrorCode.CANCELLED.exit_status
    except TimeoutError:
        print("error the workers did not come so far in time", file=sys.stderr)
        return EnumCoreErrorCode.TIMEOUT.exit_status
    except ModelOnexError as error:
        print(f"error {error.message}", file=sys.stderr)
        return error.error_code.exit_status
    except OSError as error:
        print(f"error {error.strerror}: {error.filename}", file=sys.stderr)
        return EnumCoreErrorCode.RESOURCE_UNAVAILABLE.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
