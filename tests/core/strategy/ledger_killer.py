"""Fork a publisher again and again, kill it at a random instant, count what was acknowledged."""

import json
import os
import random
import signal
import sys
import time
from datetime import date, timedelta

from tft_core.strategy.ledger import Ledger
from tft_core.strategy.protocol import Signal


def publish_from(ledger: Ledger, first: int, acknowledged: int) -> None:
    for i in range(first, first + 10_000):
        signals = [Signal("s", f"A{j}", "long", 0.5) for j in range(50)]
        positions = {f"A{j}": i / 1e5 for j in range(50)}
        ledger.publish("s", date(2000, 1, 1) + timedelta(days=i), signals, positions, "nightly")
        os.write(acknowledged, b".")


ledger, rng = Ledger(sys.argv[1]), random.Random(3)
done = lost = 0
for _ in range(int(sys.argv[2])):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            publish_from(ledger, done, writer)
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(rng.uniform(0.01, 0.12))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as stream:
        done += len(stream.read())
    stored = len(ledger.sessions("s"))
    lost += max(0, done - stored)
    done = stored
print(json.dumps({"kills": int(sys.argv[2]), "lost": lost, "acknowledged": done}))
