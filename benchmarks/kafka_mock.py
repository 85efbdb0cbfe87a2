"""librdkafka's mock cluster in a process of its own: prints its bootstrap servers, ends with its standard input."""

import sys

from tests.support.kafka import mock_cluster

if __name__ == "__main__":
    cluster = mock_cluster()
    print(cluster.bootstrap, flush=True)
    sys.stdin.read()
