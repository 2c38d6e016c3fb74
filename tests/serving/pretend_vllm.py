"""A program in vLLM's place for tests of its keeper: it answers every request with one token, and has a child process.

Arguments: the socket, and its manner: "answers"; "stubborn": its child ignores SIGTERM; "dies": it ends at once; "deaf": it
stops answering after its first token, in its first run alone (the file "ran" beside the socket tells the runs apart); "slow":
every second request waits in vain.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

CHILD = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + CHILD


class Handler(BaseHTTPRequestHandler):
    deaf = False
    slow = False
    asked = answered = 0

    def address_string(self) -> str:
        return "unix"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Handler.asked += 1
        if (Handler.deaf and Handler.answered) or (Handler.slow and Handler.asked % 2 == 0):
            threading.Event().wait(600)
        Handler.answered += 1
        body = json.dumps({"choices": [{"message": {"content": "a"}}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main(socket: str, manner: str) -> None:
    if manner == "dies":
        print("no such model", flush=True)
        sys.exit(3)
    ran = Path(socket).with_name("ran")
    Handler.deaf = manner == "deaf" and not ran.exists()
    Handler.slow = manner == "slow"
    ran.touch()
    scratch = Path(os.environ.get("TMPDIR", ran.parent))
    (scratch / "litter").touch()
    ran.with_name("scratch").write_text(str(scratch))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    program = STUBBORN if manner == "stubborn" else CHILD
    child = subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    Server(socket, Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
