"""bench_edit_step as a child: a request, an answer (its own comment says which)."""
import subprocess
import sys
import time


class Ours:
    """Open until close. mode, device, launches: the program's arguments of these names."""

    def __init__(self, program, model, items, layer, n_edits, threads=1, mode="fp32", device="cpu", launches="captured"):
        began = time.perf_counter()
        command = [program, model, items, str(layer), str(n_edits), str(threads), mode, device, launches]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        words = self.read("open")
        self.first_step = time.perf_counter() - began
        self.device_opened, self.opened, self.prefix, _, self.loss = map(float, words[:5])
        self.domain = " ".join(words[5:])

    def read(self, name):
        words = self.child.stdout.readline().split()
        if not words or words[0] != name:
            sys.exit(f"bench_edit_step answered {words} instead of {name}")
        return words[1:]

    def ask(self, name, n=1):
        print(name, n, file=self.child.stdin, flush=True)
        return self.read(name)

    def update(self, n=1):
        """Seconds of an update, as a mean over n with nothing waited for between them."""
        return sum(map(float, self.ask("steps", n))) / n

    def products(self):
        """Floating-point operations of an update's products, and their seconds with nothing between them."""
        flop, seconds = map(float, self.ask("products"))
        return flop, seconds

    def shapes(self):
        """(kind, m, n, k) of each of these products."""
        words = self.ask("shapes")
        return [(words[i], *map(int, words[i + 1:i + 4])) for i in range(0, len(words), 4)]

    def profile(self, n=3):
        """Shares of an update by family of operation, as text."""
        words = self.ask("profile", n)
        values = dict(zip(words[::2], map(float, words[1::2])))
        whole = values.pop("whole")
        return ", ".join(f"{name} {value / whole:.1%}" for name, value in values.items())

    def memory(self):
        words = self.ask("memory")
        return dict(zip(words[::2], map(float, words[1::2])))

    def evaluate(self):
        """Seconds for the rows at the cut, and from there, of all items."""
        prefix, suffix = map(float, self.ask("evaluate"))
        return prefix, suffix

    def close(self):
        self.child.stdin.close()
        self.child.wait()
