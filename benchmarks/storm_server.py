"""An HTTP server with few workers, which stalls once. Prints its port; ends, and prints JSON, with its standard input.

Requests queue for a worker, and a worker serves what it took to the end: it does not notice that the client has given
up, as few servers do. Arguments: workers, seconds of work per request, and when the stall begins and ends, in seconds
after the first request.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

from tests.support.http_server import Connection, FaultServer, Reply, Request

_OK = Reply(200, b'{"ok":true}', {"Content-Type": "application/json"})


@dataclass(slots=True)
class Workers:
    """attempts, answers: seconds after the first request, of requests that arrived and of answers that were given."""

    free: asyncio.Semaphore
    work_seconds: float
    stall: tuple[float, float]
    began: float | None = None
    attempts: list[float] = field(default_factory=list)

    def now(self) -> float:
        if self.began is None:
            self.began = time.monotonic()
        return time.monotonic() - self.began

    async def serve(self, connection: Connection, _request: Request) -> None:
        self.attempts.append(self.now())
        async with self.free:
            ends = self.now() + self.work_seconds
            if self.stall[0] <= ends and self.now() < self.stall[1]:
                ends = self.stall[1] + self.work_seconds
            await asyncio.sleep(ends - self.now())
        await connection.send(_OK.encode())


async def main(count: int, work_seconds: float, begins: float, ends: float) -> None:
    workers = Workers(asyncio.Semaphore(count), work_seconds, (begins, ends))
    async with FaultServer(record=True) as server:
        server.route("/work", workers.serve)
        print(server.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"attempts": len(workers.attempts)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *map(float, sys.argv[2:5])))
