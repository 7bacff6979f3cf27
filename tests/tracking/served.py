"""A real MLflow server in this process."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mlflow_server(database: Path) -> Iterator[str]:
    """Inside, MLflow serves that database at the address given."""
    # MLflow's server reads its settings from the environment.
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{database}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (database.parent / "artifacts").as_uri(),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        from mlflow.server import app, handlers
        from werkzeug.serving import make_server

        handlers._tracking_store = None
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
