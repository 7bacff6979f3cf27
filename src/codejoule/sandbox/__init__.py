"""The sandbox: one program against tests, isolated."""
