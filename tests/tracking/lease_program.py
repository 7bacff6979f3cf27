"""A process that takes a lease again and again, and finds out whether it has it alone."""

import json
import os
import random
import socket
import sys
import time
from pathlib import Path


def main() -> None:
    order = json.loads(sys.argv[1])
    folder, alone = Path(order["folder"]), Path(order["alone"])
    # As on a host of its own, where nothing is known of other processes.
    socket.gethostname = lambda: order["host"]
    from codejoule.common.progress import messages_told
    from codejoule.config import UserError
    from codejoule.tracking import Lease

    rng = random.Random(order["host"])
    with messages_told():
        for _ in range(order["rounds"]):
            try:
                one_round(Lease(folder, lease_s=order["lease_s"], wait=order["wait"]), alone, order)
            except UserError as error:
                print(error, flush=True)
            if rng.random() < order["dies"]:
                with Lease(folder, lease_s=order["lease_s"], wait=True):
                    os._exit(0)  # as with kill -9
    print("ended", flush=True)


def one_round(lease: object, alone: Path, order: dict[str, object]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(order["uri"]) if order["uri"] else None
    with lease:
        run_id = None
        if client is not None:
            lease.on_server(order["uri"], "0", "print")
            while True:
                lease.wait_for_claims()
                tags = {"codejoule.fingerprint": "print", **lease.tags}
                run_id = client.create_run("0", tags=tags).info.run_id
                if lease.claim(run_id):
                    break
                client.set_terminated(run_id, "KILLED")
                client.delete_run(run_id)
        # Fails where another process is inside.
        os.close(os.open(alone, os.O_CREAT | os.O_EXCL))
        print("owner", flush=True)
        time.sleep(order["stays_s"])
        if order["stays_s"] < 1:
            lease.check()
        alone.unlink()
        if run_id is not None:
            client.set_terminated(run_id, "FINISHED")
        if order["stays_s"] >= 1:
            lease.check()


if __name__ == "__main__":
    main()
