"""Ask for architectures, train them wherever you like, tell what became of them: the loop stays yours.

Everything is in the storage, so whoever asks and whoever tells may be different processes, on different days.
"""

from nas_bo import AskTell, Reported
from nas_bo.model import label, load_corpus, train
from nas_bo.objectives import Parameters
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Bayes

STORAGE = "ask_and_tell.db"


def session() -> AskTell:
    return AskTell(
        TinyGPT,
        [
            "bits_per_byte",
            Parameters(at_most=150_000),
        ],  # reported by you; computed, so nothing larger is ever asked for
        limits=[Reported("gigabytes", "GB", at_most=8)],  # reported by you as well
        strategy=Bayes(seed=0, startup=4),
        storage=STORAGE,
    )


def my_training(arch) -> dict[str, float]:
    return {"bits_per_byte": train(arch, load_corpus(), tokens=10_000).bits_per_byte, "gigabytes": 0.2}


if __name__ == "__main__":
    opt = session()
    waiting = [opt.ask() for _ in range(3)]  # three at once, for three machines
    for asked in waiting[:2]:
        opt.tell(asked.number, my_training(asked.architecture))

    later = session()  # another process, which finds what is still open
    (left,) = later.open
    later.tell(left.number, failed="the machine was lost")
    for _ in range(4):
        asked = later.ask()
        later.tell(asked.number, my_training(asked.architecture))

    print(later.result().table())
    print("smallest:", label(later.result().best("parameters").architecture))
