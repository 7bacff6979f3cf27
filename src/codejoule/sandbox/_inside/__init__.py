"""What runs inside the sandbox: standard library only, Python 3.10 or later.

These modules are shipped as text to the interpreter that judges the programs, which need not
have codejoule installed and may be another Python version. The order of trust is `worker`
(starts, then forks per program) > `init` (pid 1 of the program; limits and tests) > `task`
(where the untrusted code runs).
"""
