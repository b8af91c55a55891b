"""What a search space must do, as tests to inherit from: both views, both hosts, rules, and models if it is of our decoder."""

from __future__ import annotations

import json
import random

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.execution import preflight
from nas_bo.space import Space

WALKED = 3_000  # points of the largest space that is walked


class SpaceTests:
    """All that a space must do. Give it in `space`; its module must be importable.

    Attributes:
        decoder: its architectures are decoders of `nas_bo.model`.
        ignore: top-level fields that the decoder does not know.
    """

    space: type[Space]
    decoder: bool = True
    ignore: tuple[str, ...] = ()
    samples: int = 6

    def archs(self) -> list[Architecture]:
        return [self.space.sample(seed) for seed in range(self.samples)]

    # ---- what is tested -------------------------------------------------------------------------------------------

    def test_samples_belong_and_both_views_say_the_same(self) -> None:
        for arch in self.archs():
            assert self.space.contains(arch), self.space.contains(arch).reason
            assert self.space.architecture(arch.flat) == arch == self.space.architecture(arch.to_dict()["tree"])
            assert Architecture.from_json(arch.to_json()) == arch
            assert set(arch.flat) <= set(self.space.domains())

    def test_its_document_reads_back_as_the_same_space(self) -> None:
        rules = {rule.name: rule.test for rule in self.space.rules() if callable(rule.test)}
        again = Space.from_json(self.space.to_json(), rules)
        assert again.fingerprint() == self.space.fingerprint()
        assert [again.sample(seed).id for seed in range(self.samples)] == [arch.id for arch in self.archs()]
        assert self.space.title in self.space.describe()

    def test_rules_answer_for_every_architecture(self) -> None:
        rng = random.Random(0)
        for _ in range(50):
            arch = self.space.decide(lambda _path, domain: domain.sample(rng))
            self.space.violations(arch)  # raises SpaceError where a rule does

    def test_its_size_is_the_number_of_its_architectures(self) -> None:
        if self.space.size(rules=False) <= WALKED:
            every = [arch.id for arch in self.space.enumerate()]
            assert len(every) == len(set(every)) == self.space.size()

    def test_neighbours_are_valid_and_others(self) -> None:
        for arch in self.archs()[:2]:
            near = self.space.neighbours(arch)
            assert all(self.space.contains(one) for one in near)
            ids = [one.id for one in near]
            assert len(set(ids)) == len(ids) and arch.id not in ids

    def test_both_hosts_hold_it(self) -> None:
        from nas_bo import ax
        from nas_bo import optuna as host

        known_as = host.distributions(self.space)
        for arch in self.archs():
            for path, value in arch.flat.items():  # as a storage keeps it and gives it back
                kept = json.loads(json.dumps(known_as[path].to_internal_repr(value)))
                assert known_as[path].to_external_repr(kept) == value, path
            assert host.architecture(self.space, arch.flat) == arch
            assert ax.architecture(self.space, ax.params(self.space, arch)) == arch

    def test_models_see_it_as_numbers(self) -> None:
        from nas_bo.surrogate.genomes import genomes_of

        genomes = genomes_of(self.space)
        codes = genomes.encode(self.archs())
        assert np.isfinite(codes).all()
        assert [genomes.decode(row).id for row in codes] == [arch.id for arch in self.archs()]

    def test_its_decoders_can_be_built(self) -> None:
        if not self.decoder:
            return
        from nas_bo.model import build, counts
        from nas_bo.model.spec import check

        preflight.check_space(self.space, "search", self.ignore)
        for arch in self.archs()[:2]:
            spec = check(arch, self.ignore)
            made = build(spec, 11, device="meta")
            assert sum(weight.numel() for weight in made.parameters()) == counts.parameters(spec, 11)
