from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import structlog
from ops.logs import configure_logs
configure_logs("test")
for n in range(2000):
    structlog.get_logger().warning("nobody hears this", number=n)
print("went on")
"""


def test_lines_that_nobody_can_write_are_lost_and_who_logs_them_goes_on():
    with Path("/dev/full").open("w") as full:  # every write to it fails: no space left on device
        done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, text=True, timeout=60)
    assert done.stdout == "went on\n"
