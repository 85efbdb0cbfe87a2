"""`python -m benchmarks [NAME...]`: measure everything, or the named subjects, and print a table.

A name is that of a file `test_NAME.py` beside this one; `--list` prints them. Runs through pytest with
pytest-benchmark, which measures CPU time of the process and leaves the garbage collector on, as it is in a program.
"""

import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_OPTIONS = (
    "--quiet",
    "--no-header",
    "--no-summary",
    "--tb=short",
    "--benchmark-timer=time.process_time",
    "--benchmark-min-rounds=20",
    "--benchmark-max-time=3",
    "--benchmark-columns=min,median,stddev,rounds",
    "--benchmark-warmup=on",
    "--benchmark-warmup-iterations=5",
    "-pno:logging",  # its handlers would take part in what is measured
    "-pno:xdist",
    "-pno:cov",
    "-Wdefault",
)


def main(arguments: list[str]) -> int:
    """The exit status of pytest: 0 when everything could be measured, whatever the figures are."""
    files = {path.stem.removeprefix("test_"): path for path in sorted(_HERE.glob("test_*.py"))}
    if arguments == ["--list"]:
        print("\n".join(files))
        return 0
    unknown = [name for name in arguments if name not in files]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(files)}", file=sys.stderr)
        return 2
    chosen = [str(files[name]) for name in arguments or files]
    return int(pytest.main([*chosen, *_OPTIONS, f"--rootdir={_HERE.parent}"]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
