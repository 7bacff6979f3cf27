"""A watcher that keeps what it is told."""


class Notes:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.said: list[str] = []

    def doing(self, what: str, detail: str) -> None:
        self.done.append(f"{what}: {detail}" if detail else what)

    def say(self, text: str) -> None:
        self.said.append(text)

    def pause(self) -> None:
        pass
