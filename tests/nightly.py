"""What CI leaves to the night: cases that reach by other constants what other cases reach, and tests whose question another test also answers.

A row is a function of a file, or the whole file; beside it the cases, classes or functions of it that run every day. Where there are none, the comment
names the test that does. `conftest.py` marks the others `slow`: `pytest -m slow` and `.ci/nightly` run them.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

DAILY: dict[str, tuple[str, ...]] = {
    # each page is a program; that its commands and names exist is looked up every day, by test_pages.py::test_names_exist
    "docs/test_pages.py::test_code": (
        "agents.md", "concepts/determinism.md", "concepts/estimates.md", "concepts/hardware.md", "concepts/spaces.md", "concepts/strategies.md",
        "how-to/ask-tell.md", "how-to/device.md", "how-to/model.md", "how-to/objective.md", "how-to/pretrained.md", "how-to/space.md",
        "how-to/strategy.md", "reference/json.md",
    ),
    "docs/test_tutorials.py::test_code": ("trained",),
    "test_notebook.py::test_the_notebook_runs_and_shows_the_front": (),  # test_its_cells_run_as_a_program
    # graphs of torch: 4 to 10 s each
    "export/test_onnx.py::test_onnx_runtime_computes_the_same_at_every_length_with_a_cache_and_without": (),  # test_positions_..., with two kinds of blocks
    "hardware/test_runtimes.py::test_every_block_runs_and_agrees_with_eager_torch": (
        "onnxruntime-setting0-arch0", "onnxruntime-int8-setting2-arch2", "onnxruntime-setting5-arch5", "openvino-setting7-arch7",
    ),
    "model/test_connections_everywhere.py::test_onnx_gives_the_same_logits": ("decode",),
    # one case of each mapping of names
    "export/test_huggingface.py::test_the_stock_class_computes_the_same": (
        "Llama", "Llama, unlike layers", "Qwen2", "Qwen3", "Arcee, heads that do not divide the width", "SmolLM3, no positions", "NemotronH", "Lfm2",
        "Olmo2", "Qwen2Moe", "Qwen3Moe", "Olmoe", "Gemma2", "Starcoder2", "GPTNeoX", "GPT2",
    ),
    "export/test_huggingface.py::test_random_architectures_of_every_space_are_exact_or_say_why_not": ("tiny_gpt", "tiny_gpt_bits", "lfm2_tiny"),
    "export/test_gguf.py::test_random_architectures_of_every_space_are_exact_or_say_why_not": ("tiny_gpt", "lfm2_tiny"),
    "export/test_gguf.py::test_smaller_types_run_in_llama_cpp_and_say_what_they_cost": ("F16", "Q8_0", "Q4_K_M"),
    "export/test_remote.py::test_what_searches_find_leaves": ("Mixers",),
    # one kind of a block, of what is the same for all
    "model/test_parametrization.py::test_what_steps_do_to_activations_does_not_grow_with_width_and_depth": ("attention", "ssm"),
    "model/test_parametrization.py::test_at_its_base_it_is_the_recipe_of_today_to_the_bit": ("attention", "conv"),
    "model/test_stacked_training.py::test_a_run_does_not_depend_on_who_shares_its_kernels_and_is_that_of_train": ("attention", "conv"),
    # strategies: the shipped suite asks each of them the same on its own history
    "strategies/one_shot/test_alternation.py::test_a_search_over_the_whole_vocabulary": ("ProxylessNAS",),
    "model/test_connections_everywhere.py::test_searches_by_gradients_sample_what_is_connected": ("Darts",),
    "strategies/test_bad_histories.py::test_a_bad_history_costs_little": tuple(
        f"{case}-{kind}"
        for case, kind in (
            ("absurdly good", "NSGA2"), ("absurdly bad", "NSGA2"), ("absurdly good, two objectives", "RegularizedEvolution"),
            ("absurdly bad, two objectives", "LocalSearch"), ("one objective is constant", "NSGA2"), ("two objectives are the same", "NSGA2"),
            ("a thousand identical trials", "Reinforce"),
        )
    ),
    "strategies/test_bad_histories.py::test_choices_of_one_value_cost_nothing": ("NSGA2", "Reinforce"),
    "objectives/test_limits_of_devices.py::test_what_does_not_fit_is_never_tried_in_a_search": ("NSGA2",),
    # the doors; Optuna's suite of storages runs on SQLite every day
    "doors/test_database.py": (
        "TestConformance", "test_it_writes_and_reads_what_optunas_own_storage_does", "test_running_and_waiting_trials_are_given_without_the_others",
        "test_several_changes_are_there_together_or_not_at_all", "test_what_is_refused_leaves_what_is_written_with_it",
        "test_a_write_that_fails_as_a_whole_leaves_no_trial_in_memory", "test_a_claim_that_worked_without_saying_so_is_there_once",
        "test_a_trial_costs_the_same_after_many",
    ),
    "doors/test_ax_study_space.py::test_fixed_parameters_are_obeyed": ("fixed1-<lambda>-strategy1", "fixed2-<lambda>-strategy1", "fixed4-<lambda>-strategy1"),
    "doors/test_ax_parts.py::test_candidates_keep_the_exact_limits_of_parts": ("strategy1-True",),
    "doors/test_ax_benchmark.py::test_ax_benchmark_problems": ("hartmann6-strategy1--0.3",),
    "doors/test_ax.py::test_generation_end_to_end": ("3",),
    # the command
    "cli/test_names_and_places.py::test_a_path_is_taken_as_it_stands": ("a?b", "a%20b", "x{y}"),
    "cli/test_names_and_places.py::test_a_study_may_be_called_anything_that_can_be_printed": ("../up", "nul.txt", "50% off?", "artifacts"),
    "cli/test_profile_command.py::test_a_search_for_the_profiled_device": (),  # test_killed_it_goes_on_and_a_search_uses_the_file
    "cli/test_first_words.py::test_studies_and_picks_are_read_from_the_storage": ("s.db",),
    "cli/test_first_words.py::test_a_storage_that_cannot_be_read_completes_nothing": ("broken.db", "postgresql://nobody/x"),
    # workflows
    "workflows/test_ladder.py::test_workers_give_the_same_and_the_study_keeps_it": (),  # test_a_ladder_that_was_killed_...; executors have a suite
    "workflows/test_train.py::test_a_run_that_was_killed_goes_on_to_the_same_weights": (),  # test_a_process_that_is_killed_...
    "workflows/test_baselines.py::test_the_largest_is_no_smaller_than_anything_drawn": ("Hybrid",),
    # blocks: the example is itself an example of CI, and three others of somebody's own pass the suite every day
    "conformance/test_own_blocks.py::test_the_example_passes_the_suite": (),
    "conformance/test_own_blocks.py::test_the_example_runs": (),
    "conformance/test_own_blocks.py::test_other_processes_know_it": ("TestShift",),
    "conformance/test_own_blocks.py::test_a_block_that_gives_nan_is_named_in_a_supernet_and_in_a_gradient_search": ("block1-gradients",),
    "conformance/test_blocks.py::test_it_learns": ("TestAttention", "TestMoe"),
}  # fmt: skip


def mark(items: list[pytest.Item]) -> None:
    """`slow` on what is left to the night; an error where a row or a case of it is not there any more, unless single tests were asked for."""
    seen: dict[str, set[str]] = defaultdict(set)
    for item in items:
        assert isinstance(item, pytest.Function)
        file = str(item.path.relative_to(item.config.rootpath / "tests"))
        names = {item.originalname, *([item.callspec.id] if hasattr(item, "callspec") else ())}
        names |= {item.cls.__name__} if item.cls else set()
        for row in (file, f"{file}::{item.originalname}"):
            if row in DAILY:
                seen[row] |= names
                if names.isdisjoint(DAILY[row]):
                    item.add_marker("slow")
    if items and not any("::" in argument for argument in items[0].config.args):
        files = {str(item.path.relative_to(item.config.rootpath / "tests")) for item in items}
        gone = [
            row
            for row in DAILY
            if row.partition("::")[0] in files and not (row in seen and seen[row].issuperset(DAILY[row]))
        ]
        if gone:
            raise pytest.UsageError(f"tests/nightly.py names cases that are not there: {gone}")
