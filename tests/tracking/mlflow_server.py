"""A real MLflow server, with served artifacts, as a process: its folder and its port are named."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION
    from mlflow.server import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )

    os.environ |= {
        BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{folder}/mlflow.db",
        SERVE_ARTIFACTS_ENV_VAR: "true",
        ARTIFACTS_DESTINATION_ENV_VAR: (folder / "artifacts").as_uri(),
        ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name: "false",
    }
    import uvicorn
    from mlflow.server.fastapi_app import app

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
