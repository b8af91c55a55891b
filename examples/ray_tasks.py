"""A search whose evaluations are Ray tasks: one driver asks and tells, the cluster evaluates, the storage remembers.

Needs the extra `ray`. The strategy sits in one place and sees every result, a worker that is killed costs at most its
trial, and a driver that is killed continues with what is in the storage: start this script again.
"""

import ray

from nas_bo import AskTell
from nas_bo.model import load_corpus, train
from nas_bo.objectives import Parameters
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Bayes

TRIALS, WORKERS = 6, 2


@ray.remote(num_cpus=1, max_retries=1)  # num_gpus=1 on a cluster with GPUs
def evaluate(arch) -> dict[str, float]:
    return {"bits_per_byte": train(arch, load_corpus(), tokens=5_000).bits_per_byte}


if __name__ == "__main__":
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)  # or address="auto"
    opt = AskTell(
        TinyGPT,
        ["bits_per_byte", Parameters(at_most=150_000)],
        strategy=Bayes(seed=0, startup=4),
        storage="ray_tasks.db",  # a URL that all drivers reach, where several run
    )
    running = {evaluate.remote(asked.architecture): asked.number for asked in opt.open}  # of a driver that died
    begun = len(opt.study.trials)
    while True:
        while len(running) < WORKERS and begun < TRIALS:
            asked, begun = opt.ask(), begun + 1
            running[evaluate.remote(asked.architecture)] = asked.number
        if not running:
            break
        (done, *_), _ = ray.wait(list(running))
        number = running.pop(done)
        try:
            opt.tell(number, ray.get(done))
        except ray.exceptions.RayError as error:  # it raised, or its worker was killed twice
            opt.tell(number, failed=str(error).splitlines()[-1])
    ray.shutdown()
    print(opt.result().table())
