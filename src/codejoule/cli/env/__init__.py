"""``codejoule env``: builds the environments of Python that stand beside the running one."""

import argparse


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "env",
        help="build an environment: BigCodeBench's libraries, or vLLM",
        description="Builds an environment of Python of its own, once. bigcodebench has the "
        "libraries that BigCodeBench's tasks use, for Python 3.11, and for 3.10 where that is "
        "installed. vllm has what engine=vllm runs in, with CUDA where an NVIDIA driver answers, "
        "else for the CPU.",
    )
    parser.add_argument("name", choices=("bigcodebench", "vllm"), help="which one")


def run(args: argparse.Namespace) -> int:
    """Build it unless it is there. Raises `UserError` where that is not possible."""
    if args.name == "bigcodebench":
        from codejoule.cli.env.bigcodebench import build
    else:
        from codejoule.cli.env.vllm import build
    build()
    return 0
