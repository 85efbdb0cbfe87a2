"""What importing the public door costs a program: CPU seconds, and the peak of its memory in MiB, as JSON."""

import json
import time

if __name__ == "__main__":
    started = time.process_time()
    import omnibase_core.nodes  # noqa: F401  # the import is what is measured

    seconds = time.process_time() - started

    from benchmarks.memory import peak_mib

    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))
