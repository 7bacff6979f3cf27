"""A fork server whose forks do what their order says."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from codejoule.common.forking import leave, serve


def prepare() -> None:
    if "thread" in sys.argv:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def obey(order: dict[str, str], files: tuple[int, ...]) -> int:
    for number in files:
        os.write(number, f"{os.getppid()}\n{os.environ.get(order['name'])}\n".encode())
        os.close(number)
    os.environ[order["name"]] = "set by a fork"
    if "sleep" in order:
        try:
            Path(order["sleep"]).write_text(str(os.getpid()))
            time.sleep(60)
        except KeyboardInterrupt:
            return 130
    if "signal" in order:
        os.kill(os.getpid(), signal.Signals[order["signal"]])
    return int(order.get("code", 0))


if __name__ == "__main__":
    found = serve(socket.socket(fileno=int(sys.argv[-1])), prepare)
    leave(0 if found is None else obey(found.order, found.files))
